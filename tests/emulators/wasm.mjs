// Runs a WebAssembly module of tests/emulators/executable.py: an image comes in, what the kernels made of it goes out.
import { readFileSync, writeSync } from "node:fs";

const { exports } = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(process.argv[2])));
const input = readFileSync(0);
const image = new Uint8Array(exports.memory.buffer, exports.image(), input.length);
image.set(input);
exports.run();
for (let done = 0; done < image.length; ) {
  try {
    done += writeSync(1, image, done);
  } catch (error) {
    if (error.code !== "EAGAIN") throw error; // a pipe that is full for now
  }
}
