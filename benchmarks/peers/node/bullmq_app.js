// BullMQ on Redis: `node bullmq_app.js work`, `node bullmq_app.js fill N`. A job that has run is removed.
import { Queue, Worker } from "bullmq";
import IORedis from "ioredis";

import { hit } from "./counting.js";
import { inTwoProcesses } from "./two_processes.js";

const CONCURRENCY = 100;
const ADD_AT_ONCE = 1_000;
const connect = () => new IORedis(process.env.BENCH_REDIS, { maxRetriesPerRequest: null });
const [command, number] = process.argv.slice(2);

if (command === "work") {
  inTwoProcesses(() => {
    const worker = new Worker("bench", async () => hit(), {
      connection: connect(), concurrency: CONCURRENCY, removeOnComplete: { count: 0 },
    });
    worker.on("error", (error) => console.error(error));
  });
} else {
  const connection = connect();
  const queue = new Queue("bench", { connection });
  for (let left = Number(number); left > 0; left -= ADD_AT_ONCE) {
    await queue.addBulk(Array.from({ length: Math.min(left, ADD_AT_ONCE) }, () => ({ name: "noop", data: {} })));
  }
  await queue.close();
  connection.disconnect();
}
