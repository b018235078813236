/** The validation loss that a user gets from the recipe `shakespeare` as it is shipped. */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import type { Row } from '../harness.js';
import { withFolder } from '../machine.js';
import { ANNEAL } from './client.js';
import { claimed, unmeasured } from './rows.js';
import { NANOGPT } from './training-job.js';

const RECIPE = 'shakespeare';

/** What a finished run says of itself. */
export interface RecipeRun {
  status: string;
  step: number;
  config: {
    model: { positions: string };
    optimizer: { lr: number };
    evaluate: { batches?: number };
  };
  /** `loss` is that of the last evaluation, not the lowest: nothing is chosen by the validation text. */
  summary: { loss: number; time: string };
}

/**
 * Runs the recipe on a text, in a process of its own.
 * @throws Error with what it complained of, if it did not finish.
 */
export function runRecipe(text: string, overrides: readonly string[] = []): Promise<RecipeRun> {
  return withFolder(async (folder) => {
    const args = ['run', RECIPE, `data=${text}`, ...overrides, '--json', '--dir', path.join(folder, 'run')];
    const { stdout } = await promisify(execFile)(process.execPath, [ANNEAL, ...args]).catch(
      (error: Error & { stderr?: string }) => {
        throw new Error(error.stderr?.trim() || error.message);
      },
    );
    const run = JSON.parse(stdout) as RecipeRun;
    if (run.status !== 'finished') throw new Error(`the recipe ${RECIPE} ended as ${run.status}`);
    return run;
  });
}

/** The row of a run, with what differs from nanoGPT's settings as the run's config has it. */
export function recipeRow({ step, config, summary }: RecipeRun): Row {
  const { model, optimizer, evaluate } = config;
  const text = evaluate.batches === undefined ? 'the whole validation text' : `${evaluate.batches} batches`;
  const note = `\`anneal run ${RECIPE}\` as shipped, after step ${step}, over ${text}; unlike nanoGPT: positions ${model.positions} instead of learned, peak rate ${optimizer.lr} instead of ${NANOGPT.optimizer.lr}, norms with a bias, tanh GELU (nanoGPT's own settings: the row below; its README's 1.88 is a mean over random windows); ${summary.time}`;
  return claimed('shakespeare-loss', { value: summary.loss, repeats: 1, note });
}

/** The row; one without value and with the reason if the run failed. */
export async function recipeLossRow(text: string, log: (line: string) => void): Promise<Row> {
  log(`running the recipe ${RECIPE}`);
  try {
    return recipeRow(await runRecipe(text));
  } catch (error) {
    return unmeasured(['shakespeare-loss'], (error as Error).message)[0]!;
  }
}
