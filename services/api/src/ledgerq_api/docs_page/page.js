// The document is beside this page, so a proxy's prefix needs no setting. Calls go to where the page came from.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
paint();
dark.addEventListener("change", paint);

// Every call about a task is about the one that this page submitted last, or else the one that the server has last.
const ID = "{task_id}";

function fillIn(spec, taskId) {
  for (const [path, calls] of Object.entries(spec.paths).filter(([path]) => path.includes(ID))) {
    for (const method of Object.keys(calls)) {
      window.ui.specActions.changeParam([path, method], "task_id", "path", taskId, false);
    }
  }
}

function taskIn(answer) {
  const body = answer.ok && (answer.body ?? answer.obj);
  return body && (body.task_id || body.tasks?.[0]?.task_id);
}

async function lastTask() {
  const answer = await fetch("tasks/?page_size=1");
  return answer.ok ? (await answer.json()).tasks[0]?.task_id : undefined;
}

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
      onComplete: () => lastTask().then((taskId) => taskId && fillIn(spec, taskId)).catch(() => {}),
      responseInterceptor: (answer) => {
        const path = new URL(answer.url, window.location.href).pathname;
        const taskId = /\/(submit|batch|rerun)$/.test(path) && taskIn(answer);
        if (taskId) fillIn(spec, taskId);
        return answer;
      },
    });
  })
  .catch((error) => {
    document.getElementById("page").textContent = `openapi.json could not be read: ${error}`;
  });
