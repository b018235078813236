import { AnnealError } from '../core/errors.js';
import type { Variable } from '../core/variable.js';
import type { Optimizer } from '../optim/optimizer.js';
import type { ModelFiles } from '../train/options.js';

/** Everything that a policy stores in a checkpoint. */
export interface PolicyState {
  parameters: ReadonlyMap<string, Variable>;
  optimizer: Optimizer;
  /** The reference's weights, where they are not the model's own. */
  reference: ReadonlyMap<string, Variable> | undefined;
  files: ModelFiles | undefined;
}

/** Numbers that a policy counts. */
export interface PolicyCounters {
  updates: number;
}

const counterFile = 'policy.json';

/**
 * Writes a policy into a folder that exists: `model.safetensors` (or what `files` writes), `optimizer.safetensors`,
 * `reference.safetensors` where there is a snapshot, and `policy.json`.
 */
export async function writePolicy(
  folder: string,
  state: PolicyState,
  counters: PolicyCounters,
): Promise<void> {
  const { writeFile } = await import('node:fs/promises');
  const { entryOf, writeSafetensors } = await import('../checkpoint/safetensors-files.js');
  const write = (name: string, variables: ReadonlyMap<string, Variable>) =>
    writeSafetensors(
      `${folder}/${name}`,
      new Map([...variables].map(([key, variable]) => [key, entryOf(variable)])),
    );
  if (state.files) await state.files.write(folder);
  else await write('model.safetensors', state.parameters);
  await write('optimizer.safetensors', state.optimizer.state());
  if (state.reference) await write('reference.safetensors', state.reference);
  await writeFile(`${folder}/${counterFile}`, `${JSON.stringify({ format: 1, ...counters })}\n`);
}

/** Fills a policy from a folder. @throws AnnealError if anything is missing or does not fit. */
export async function readPolicy(folder: string, state: PolicyState): Promise<PolicyCounters> {
  const { readFile } = await import('node:fs/promises');
  const { readVariables } = await import('../train/checkpoints.js');
  const file = `${folder}/${counterFile}`;
  let counters: PolicyCounters & { format: number };
  try {
    counters = JSON.parse(await readFile(file, 'utf8')) as typeof counters;
  } catch (error) {
    throw new AnnealError(
      `${file} cannot be read: ${(error as Error).message}; restore from a whole checkpoint`,
    );
  }
  const { format, updates } = counters;
  if (format !== 1 || !Number.isInteger(updates) || updates < 0)
    throw new AnnealError(`${file} is no state of a policy that this version can read`);
  if (state.files) await state.files.read(folder);
  else await readVariables(`${folder}/model.safetensors`, state.parameters);
  await readVariables(`${folder}/optimizer.safetensors`, state.optimizer.state());
  if (state.reference) await readVariables(`${folder}/reference.safetensors`, state.reference);
  return { updates };
}
