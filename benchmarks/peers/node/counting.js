// A no-op counts itself as benchmarks/counting.py says: eight bytes in a file of its process. Node cannot map a file
// into memory, so the count is a variable, written down every 5 ms.
import { openSync, writeSync } from "node:fs";
import { join } from "node:path";

const bytes = Buffer.alloc(8);
let file, timer;
let count = 0n;

export function hit() {
  count += 1n;
  timer ??= setTimeout(write, 5);
}

function write() {
  timer = undefined;
  file ??= openSync(join(process.env.BENCH_COUNTS, String(process.pid)), "w");
  bytes.writeBigUInt64LE(count);
  writeSync(file, bytes, 0, 8, 0);
}
