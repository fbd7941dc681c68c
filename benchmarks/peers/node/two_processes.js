// Node runs JavaScript on one core: two processes, children of one that does nothing else.
import cluster from "node:cluster";

export function inTwoProcesses(work) {
  if (!cluster.isPrimary) return work();
  for (const child of [cluster.fork(), cluster.fork()]) child.on("exit", (code) => code && process.exit(code));
  process.on("SIGTERM", () => process.exit());
}
