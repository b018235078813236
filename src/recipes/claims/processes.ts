/** Trainings in child processes: the parent's side. training-process.ts is the other. */
import { type ChildProcess, fork } from 'node:child_process';
import { AnnealError } from '../../index.js';

/** First message to a child: what its jobs belong to. Then come numbers of jobs. */
export interface Assignment {
  recipe: string;
  config: unknown;
}

/** A child's answer to a job. */
export type Answer =
  | { cell: unknown }
  /** `isUser`: the message is for the user; else it is a defect, and `message` has its stack. */
  | { error: { message: string; isUser: boolean } };

/** What is to be trained, and where results go. */
export interface ProcessOptions<Cell> extends Assignment {
  /** Numbers of the jobs in the recipe's list, and their names. */
  jobs: ReadonlyMap<number, string>;
  /** Children at once. */
  workers: number;
  signal: AbortSignal;
  onCell(job: number, cell: Cell): void;
  /** What children run, for tests. */
  program?: URL | string;
}

const childModule = new URL('./training-process.js', import.meta.url);

/** Characters of a child's error output that are kept for the message of its death. */
const keptOutput = 2000;

/**
 * Trains jobs in child processes until all are done or the signal comes. What a stopped child was at is lost, and no
 * child outlives the call.
 * @throws AnnealError if a training fails or a child dies, Error with the child's stack for a defect; the other children
 *   are ended first.
 */
export async function trainInProcesses<Cell>(options: ProcessOptions<Cell>): Promise<void> {
  const waiting = [...options.jobs.keys()];
  let halt = () => {};
  const halted = new Promise<undefined>((resolve) => {
    halt = () => {
      waiting.length = 0;
      resolve(undefined);
    };
  });
  options.signal.addEventListener('abort', halt, { once: true });
  if (options.signal.aborted) halt();
  const lane = async () => {
    if (waiting.length === 0) return;
    const child = startChild(options);
    try {
      for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
        const cell = await Promise.race([child.answer(job), halted]);
        if (cell !== undefined) options.onCell(job, cell as Cell);
      }
    } catch (error) {
      halt();
      throw error;
    } finally {
      await child.end();
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: options.workers }, lane));
  options.signal.removeEventListener('abort', halt);
  // The first failure by time would be as good; the first by lane needs no bookkeeping.
  const failed = ended.find((one) => one.status === 'rejected');
  if (failed) throw failed.reason;
}

/** One child process. */
interface Child {
  /** The cell of a job. */
  answer(job: number): Promise<unknown>;
  /** Resolves when the process is gone. */
  end(): Promise<void>;
}

function startChild({ recipe, config, jobs, program = childModule }: ProcessOptions<never>): Child {
  const child = fork(program, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
  let output = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-keptOutput);
  });
  const gone = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(`cannot be started: ${error.message}`));
    // `close` comes when the error output has been read, too.
    child.once('close', (code, signal) =>
      resolve(`ended ${signal ? `by ${signal}` : `with code ${code}`}${output && ` (${output.trim()})`}`),
    );
  });
  // A message to a child that has just died fails; its end is reported by `gone`.
  const send = (message: Assignment | number) => child.send(message, () => {});
  send({ recipe, config });
  return {
    async answer(job) {
      send(job);
      const answer = await Promise.race([answerOf(child), gone]);
      const name = jobs.get(job)!;
      if (typeof answer === 'string')
        throw new AnnealError(
          `the process that trained ${name} ${answer}; the same command goes on behind what is finished`,
        );
      if ('cell' in answer) return answer.cell;
      const { message, isUser } = answer.error;
      throw isUser ? new AnnealError(`${name}: ${message}`) : new Error(`${name}: ${message}`);
    },
    async end() {
      child.kill('SIGKILL');
      await gone;
    },
  };
}

const answerOf = (child: ChildProcess): Promise<Answer> =>
  new Promise((resolve) => child.once('message', (answer) => resolve(answer as Answer)));
