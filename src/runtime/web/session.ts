import type { WeightBinding } from '../backend.js';
import type { InferenceSession, Ort, Tensor, WebRuntime } from './ort.js';

/** A weight as the contents of the file that the model believes it to be in. */
const externalFile = ({ name, slot: { data } }: WeightBinding) => ({
  path: name,
  data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
});

/** A session that outlives failed runs. Calls must come one at a time. */
export class Session {
  readonly #ort: Ort;
  readonly #runtime: WebRuntime;
  readonly #model: Uint8Array;
  readonly #weights: readonly WeightBinding[];
  #current: InferenceSession | undefined;

  /** `model` and `weights` must not change: they are read again after a failure. */
  constructor(ort: Ort, runtime: WebRuntime, model: Uint8Array, weights: readonly WeightBinding[] = []) {
    this.#weights = weights;
    this.#ort = ort;
    this.#runtime = runtime;
    this.#model = model;
  }

  /** Makes the session if there is none. Rejects with ONNX Runtime's text. */
  async open(): Promise<InferenceSession> {
    this.#current ??= await this.#ort.InferenceSession.create(this.#model, {
      executionProviders: [this.#runtime],
      graphOptimizationLevel: 'all',
      logSeverityLevel: 4,
      ...(this.#weights.length > 0 && { externalData: this.#weights.map(externalFile) }),
      // A recomputed activation is a deliberate duplicate: merging it with the original would keep both alive.
      extra: { optimization: { disable_specified_optimizers: 'CommonSubexpressionElimination' } },
    });
    return this.#current;
  }

  /** Runs once. Rejects with ONNX Runtime's text. */
  async run(
    inputs: Readonly<Record<string, Tensor>>,
    outputs: readonly string[],
  ): Promise<InferenceSession.OnnxValueMapType> {
    const session = await this.open();
    try {
      return await session.run(inputs, outputs);
    } catch (error) {
      // After a failed run, the next one of the same WebGPU session would never end (seen in 1.30).
      if (this.#runtime === 'webgpu') await this.release().catch(() => {});
      throw error;
    }
  }

  /** Frees the session. A later run makes another. */
  async release(): Promise<void> {
    const session = this.#current;
    this.#current = undefined;
    await session?.release();
  }
}
