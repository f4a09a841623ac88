// Times greedy decoding with llama.cpp's Vulkan backend: `llama_cpp.mjs GGUF PROMPT_TOKENS NEW_TOKENS RUNS`.
// Prints the milliseconds of each run as one JSON object, after a run that does not count.

import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const [path, ...sizes] = process.argv.slice(2);
const [promptTokens, newTokens, runs] = sizes.map(Number);
const llama = await getLlama({
  gpu: "vulkan", build: "never", skipDownload: true, vramPadding: 0, logLevel: LlamaLogLevel.error,
});
const model = await llama.loadModel({ modelPath: path, gpuLayers: "max", ignoreMemorySafetyChecks: true });
const context = await model.createContext({
  contextSize: promptTokens + newTokens + 32, batchSize: promptTokens, ignoreMemorySafetyChecks: true,
});
const prompt = Array.from({ length: promptTokens }, (_, i) => i % 29 + 3);
const measured = { prompt_ms: [], token_ms: [] };
for (let run = 0; run <= runs; run++) {
  const sequence = context.getSequence();
  let start = performance.now();
  let tokens = 0;
  let promptMs = 0;
  for await (const _ of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
    if (tokens === 0) {
      promptMs = performance.now() - start;
      start = performance.now();
    } else if (tokens === newTokens - 1) {
      break;
    }
    tokens += 1;
  }
  const tokenMs = (performance.now() - start) / (newTokens - 1);
  sequence.dispose();
  if (run > 0) {
    measured.prompt_ms.push(promptMs);
    measured.token_ms.push(tokenMs);
  }
}
console.log(JSON.stringify(measured));
await llama.dispose();
