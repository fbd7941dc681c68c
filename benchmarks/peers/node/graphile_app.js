// Graphile Worker on PostgreSQL: `node graphile_app.js schema`, `… work`, `… fill N`. It deletes a job that has run.
//
// With its local queue and batches of completions, as its own performance test has them.
import { makeWorkerUtils, run } from "graphile-worker";

import { hit } from "./counting.js";
import { inTwoProcesses } from "./two_processes.js";

const CONCURRENT_JOBS = 24;
const ADD_AT_ONCE = 5_000;
const connectionString = process.env.BENCH_DATABASE;
const [command, number] = process.argv.slice(2);

if (command === "work") {
  inTwoProcesses(() =>
    run({
      taskList: { noop: async () => hit() },
      preset: {
        worker: {
          connectionString,
          concurrentJobs: CONCURRENT_JOBS,
          maxPoolSize: CONCURRENT_JOBS + 1,
          localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
        },
      },
    }),
  );
} else {
  const utils = await makeWorkerUtils({ connectionString });
  if (command === "schema") await utils.migrate();
  for (let left = Number(number ?? 0); left > 0; left -= ADD_AT_ONCE) {
    await utils.addJobs(Array.from({ length: Math.min(left, ADD_AT_ONCE) }, () => ({ identifier: "noop", payload: {} })));
  }
  await utils.release();
}
