// The document is beside this page, so a proxy's prefix needs no setting. Calls go to where the page came from.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
paint();
dark.addEventListener("change", paint);

fetch("openapi.json")
  .then((answer) => answer.json())
  .then((spec) => {
    spec.servers = [{ url: new URL(".", window.location.href).pathname.replace(/\/$/, "") || "/" }];
    window.ui = SwaggerUIBundle({
      spec,
      dom_id: "#page",
      deepLinking: true,
      persistAuthorization: false,
      presets: [SwaggerUIBundle.presets.apis],
      layout: "BaseLayout",
      validatorUrl: null,
      tryItOutEnabled: true,
    });
  })
  .catch((error) => {
    document.getElementById("page").textContent = `openapi.json could not be read: ${error}`;
  });
