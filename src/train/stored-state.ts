import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { storedAs } from '../checkpoint/element-types.js';
import {
  entryOf,
  openSafetensorsFile,
  type TensorEntry,
  writeSafetensors,
} from '../checkpoint/safetensors-files.js';
import { isFloat } from '../core/dtype.js';
import { AnnealError } from '../core/errors.js';
import { feedData, feedShape, type InputSpec, specType } from '../core/feeds.js';
import type { Variable } from '../core/variable.js';
import type { Feeds } from '../data/batch-source.js';
import type { Optimizer } from '../optim/optimizer.js';
import type { WeightAverage } from './average.js';
import { checkpointPath, readState, readVariables, type TrainState } from './checkpoints.js';
import type { ModelFiles } from './options.js';

const entriesOf = (variables: ReadonlyMap<string, Variable>): Map<string, TensorEntry> =>
  new Map([...variables].map(([name, variable]) => [name, entryOf(variable)]));

/**
 * All tensors of a run, and how they lie in a checkpoint:
 *
 * | file                    | holds                                                                     |
 * | ----------------------- | ------------------------------------------------------------------------- |
 * | `model.safetensors`     | the weights to use: the averages where evaluations see them               |
 * | `optimizer.safetensors` | the optimiser's state                                                     |
 * | `ema.safetensors`       | averages, where the model is the trained weights                          |
 * | `trained.safetensors`   | trained weights and the average's counter, where the model is the average |
 */
export class StoredState {
  constructor(
    private readonly parameters: ReadonlyMap<string, Variable>,
    private readonly optimizer: Optimizer,
    private readonly average: WeightAverage | undefined,
    /** Whether the model of a checkpoint is the average. */
    private readonly isAverageUsed: boolean,
    private readonly files: ModelFiles | undefined,
  ) {}

  /** Which weights the model of a checkpoint is. */
  get weights(): TrainState['weights'] {
    return this.isAverageUsed ? 'average' : 'trained';
  }

  /** What an average leaves beside the model: itself, or what it replaced. */
  private beside(): [string, Map<string, Variable>] | undefined {
    const { average } = this;
    if (!average) return undefined;
    if (!this.isAverageUsed) return ['ema.safetensors', average.state()];
    const trained = new Map(average.state());
    for (const name of average.variables.keys()) trained.set(name, this.parameters.get(name)!);
    return ['trained.safetensors', trained];
  }

  /** Writes all tensors into a folder. No program may be running. */
  async write(folder: string): Promise<void> {
    const beside = this.beside();
    if (beside) await writeSafetensors(path.join(folder, beside[0]), entriesOf(beside[1]));
    await writeSafetensors(path.join(folder, 'optimizer.safetensors'), entriesOf(this.optimizer.state()));
    await this.withModelWeights(async () => {
      if (this.files) await this.files.write(folder);
      else await writeSafetensors(path.join(folder, 'model.safetensors'), entriesOf(this.parameters));
    });
  }

  /** Fills all variables from a folder. @throws AnnealError if anything does not fit. */
  async read(folder: string): Promise<void> {
    // The model first: where it is the average, it goes through the parameters.
    await this.withModelWeights(async () => {
      if (this.files) await this.files.read(folder);
      else await readVariables(path.join(folder, 'model.safetensors'), this.parameters);
    });
    const beside = this.beside();
    if (beside) await readVariables(path.join(folder, beside[0]), beside[1]);
    await readVariables(path.join(folder, 'optimizer.safetensors'), this.optimizer.state());
  }

  /** Runs `body` while the parameters are the weights that evaluations see. */
  async withModelWeights<T>(body: () => Promise<T>): Promise<T> {
    if (!this.isAverageUsed) return body();
    this.average!.swap();
    try {
      return await body();
    } finally {
      this.average!.swap();
    }
  }

  /** The name of the first variable that holds a NaN or an infinity; costs a pass over everything. */
  firstNonFinite(): string | undefined {
    const all = [...this.parameters, ...this.optimizer.state(), ...(this.average?.state() ?? [])];
    for (const [name, { data, dtype }] of all) {
      if (!isFloat(dtype) || dtype === 'float16') continue;
      for (let i = 0; i < data.length; i++) if (!Number.isFinite(data[i])) return name;
    }
    return undefined;
  }
}

/**
 * Whether all files of a checkpoint are whole: sizes, headers, state. Says what is wrong, or nothing.
 * @param required files that must be there, relative to the checkpoint
 */
export async function damageOf(
  directory: string,
  step: number,
  required: readonly string[] = ['optimizer.safetensors'],
): Promise<string | undefined> {
  const folder = checkpointPath(directory, step);
  try {
    await readState(directory, step);
    for (const name of await readdir(folder, { recursive: true })) {
      if (!name.endsWith('.safetensors')) continue;
      await (await openSafetensorsFile(path.join(folder, name))).close();
    }
    const missing = required.find((name) => !existsSync(path.join(folder, name)));
    return missing === undefined ? undefined : `${folder} has no ${missing}`;
  } catch (error) {
    if (error instanceof AnnealError) return error.message;
    throw error;
  }
}

/** Writes a batch as a safetensors file, for a look at it. */
export async function writeBatch(
  file: string,
  inputs: Readonly<Record<string, InputSpec>>,
  feeds: Feeds,
): Promise<void> {
  const entries = Object.entries(inputs).map(([name, spec]): [string, TensorEntry] => {
    const type = specType(spec);
    const shape = feedShape(name, type, feeds[name]!);
    const stored = storedAs[type.dtype as Exclude<typeof type.dtype, 'int64'>];
    return [name, { type: stored, shape, data: feedData(type, feeds[name]!) }];
  });
  await writeSafetensors(file, new Map(entries));
}
