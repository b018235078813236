/**
 * What @jax-js/jax 0.1.25 expects of its host and Node 20 lacks, each checked by removing it:
 *   navigator              kernel tuning reads `navigator.userAgent` (Node has one from 21 on)
 *   iterator helpers       einsum parses its expression with `map` and `filter` (Node 22)
 *   Float16Array           `instanceof` checks on every array that is made (Node 24); never constructed here
 *   Worker                 the wasm backend's thread pool; without it jax-js runs on one thread
 *
 * Worker matters for fairness: no version of Node has the browser's class, so jax-js is single-threaded there
 * out of the box. With this stand-in over worker_threads it uses every core, as it would in a browser.
 */
import { resolveObjectURL } from 'node:buffer';
import { Worker as NodeWorker } from 'node:worker_threads';

/** Makes a worker_threads thread look like a browser worker from inside. */
const WORKER_PRELUDE = `
const { parentPort } = require('node:worker_threads');
globalThis.self = globalThis;
globalThis.postMessage = (message) => parentPort.postMessage(message);
parentPort.on('message', (data) => self.onmessage({ data }));
`;

/** The part of the browser's Worker that jax-js uses: blob URLs, postMessage, onmessage, onerror. */
class BlobWorker {
  onmessage = null;
  onerror = null;
  #thread = null;
  #early = [];

  constructor(url) {
    resolveObjectURL(url)
      .text()
      .then((source) => {
        this.#thread = new NodeWorker(WORKER_PRELUDE + source, { eval: true });
        this.#thread.on('message', (data) => this.onmessage?.({ data }));
        this.#thread.on('error', (error) => this.onerror?.(error));
        for (const message of this.#early) this.#thread.postMessage(message);
      });
  }

  postMessage(message) {
    if (this.#thread === null) this.#early.push(message);
    else this.#thread.postMessage(message);
  }
}

/** Node 22's iterator helpers, as far as jax-js uses them. */
const ITERATOR_HELPERS = {
  *map(transform) {
    let index = 0;
    for (const value of this) yield transform(value, index++);
  },
  *filter(keep) {
    let index = 0;
    for (const value of this) if (keep(value, index++)) yield value;
  },
};

/** Defines the missing globals. Call before importing jax-js, which looks for Worker as it loads. */
export function provideBrowserGlobals(threads) {
  // Also where Node has a navigator: jax-js takes its number of threads from it.
  const navigator = { userAgent: 'Node.js', hardwareConcurrency: threads };
  Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true });
  const iteratorPrototype = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]()));
  for (const [name, value] of Object.entries(ITERATOR_HELPERS)) {
    if (!(name in iteratorPrototype))
      Object.defineProperty(iteratorPrototype, name, { value, configurable: true });
  }
  globalThis.Float16Array ??= class Float16Array {};
  if (threads > 1) globalThis.Worker ??= BlobWorker;
}
