/**
 * A child process of processes.ts: finds the recipe's trainings again, does those whose numbers it is sent, and answers
 * with their cells. The parent ends it; if the parent is gone, it ends itself.
 */
import { AnnealError, configure } from '../../index.js';
import { loadRecipe } from '../index.js';
import type { Recipe } from '../recipe.js';
import type { Answer, Assignment } from './processes.js';
import type { Trainings } from './trainings.js';

type TrainingsRecipe = Recipe & { trainings: Trainings<unknown, unknown, unknown, unknown> };

/** Does the job of a number. */
type Work = (job: number) => Promise<unknown>;

async function begin({ recipe: name, config }: Assignment): Promise<Work> {
  // The parent runs as many processes as there are cores.
  configure({ threads: 1 });
  const { trainings, prepare } = (await loadRecipe(name)) as TrainingsRecipe;
  const prepared = await prepare(config);
  const jobs = trainings.jobs(config, prepared);
  const never = new AbortController().signal;
  return (at) => trainings.train(jobs[at]!, config, prepared, never);
}

const answered = (work: Promise<Work>, job: number): Promise<Answer> =>
  work
    .then((train) => train(job))
    .then(
      (cell) => ({ cell }),
      (error: Error) => {
        const isUser = error instanceof AnnealError;
        return { error: { message: isUser ? error.message : String(error.stack), isUser } };
      },
    );

let work: Promise<Work> | undefined;
process.on('message', (message: Assignment | number) => {
  if (typeof message === 'number') {
    void answered(work!, message).then((answer) => process.send!(answer));
    return;
  }
  work = begin(message);
  // A failure is the answer to the first job.
  work.catch(() => {});
});
process.on('disconnect', () => process.exit());
// Ctrl-C reaches all processes of a terminal; the parent decides what it means.
process.on('SIGINT', () => {});
