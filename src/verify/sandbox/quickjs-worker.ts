/**
 * The worker thread around QuickJS, as source text: it has no file of its own, so that it runs the same from
 * compiled files, from sources and from a bundle. `workerData` gives the path of quickjs-emscripten, the harness
 * and the limits.
 *
 * Every program gets a WebAssembly instance of its own, whose memory cannot grow past the limit: QuickJS's own
 * memory limit counts only some allocations.
 */
export const quickjsWorker = `
'use strict';
const { parentPort, workerData } = require('node:worker_threads');
const { path, harness, memoryBytes, outputBytes, stackBytes } = workerData;
const library = require(path);
const page = 65536, initialPages = 256;
let runtime, context, functions;

async function fresh() {
  runtime = context = functions = undefined;
  used = false;
  const maximum = Math.max(initialPages, Math.ceil(memoryBytes / page));
  const wasmMemory = new WebAssembly.Memory({ initial: initialPages, maximum });
  const variant = library.newVariant(library.RELEASE_SYNC, { wasmMemory, wasmModule: workerData.wasm });
  const instance = await library.newQuickJSWASMModuleFromVariant(variant);
  runtime = instance.newRuntime();
  runtime.setMaxStackSize(stackBytes);
  context = runtime.newContext();
  const object = context.unwrapResult(context.evalCode(harness, 'harness.js'));
  functions = Object.fromEntries(['begin', 'thrown', 'tick', 'finish'].map((name) => [name, context.getProp(object, name)]));
}

/** Calls a function of the harness with texts and truth values; throws what it throws. */
function invoke(name, ...args) {
  return call(name, ...args.map((one) => (typeof one === 'string' ? context.newString(one) : one ? context.true : context.false)));
}

function call(name, ...handles) {
  const result = context.callFunction(functions[name], context.undefined, ...handles);
  if (result.error) {
    let message = 'null';
    try { const dumped = context.dump(result.error); message = String(dumped && dumped.message ? dumped.message : dumped); } catch {}
    throw new Error(message);
  }
  return context.dump(result.value);
}

/** Whether the instance has run something: a whole program must find no globals of the one before. */
let used = false;

async function perform(line) {
  const { nonce, ...request } = JSON.parse(line);
  if (request.op === 'run' && used) await fresh();
  used = true;
  const head = '{"nonce":' + JSON.stringify(nonce) + ',';
  parentPort.postMessage(head + '"begun":true}');
  let broken = false, message = '';
  try {
    invoke('begin', JSON.stringify({ ...request, outputBytes }));
    if (request.op === 'load' || request.op === 'run') {
      const result = context.evalCode(request.source, 'solution.js', { type: 'global' });
      if (result.error) call('thrown', result.error);
    }
    for (let more = true; more; ) {
      const jobs = runtime.executePendingJobs();
      if (jobs.error) throw new Error(String(context.dump(jobs.error)?.message ?? 'null'));
      more = jobs.value > 0 || invoke('tick');
    }
  } catch (error) { broken = true; message = error.message; }
  let reply;
  try { reply = invoke('finish', broken, message); }
  catch (error) {
    const kind = /memory|null/.test(error.message) ? 'memory' : 'runtime';
    reply = '"error":"' + kind + '","message":' + JSON.stringify(error.message.slice(0, 400));
  }
  parentPort.postMessage(head + reply + '}');
}

parentPort.on('message', async (line) => {
  if (line === 'reset') await fresh().then(() => parentPort.postMessage('ready'), (error) => { throw error; });
  else await perform(line);
});
fresh().then(() => parentPort.postMessage('ready'));
`;
