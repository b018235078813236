import type { ChildProcess } from 'node:child_process';
import type { Duplex } from 'node:stream';
import { lineReader } from './lines.js';
import type { Interpreter } from './sandbox.js';

/** Characters of a child's standard error that are kept, for the reason why it did not start. */
const mostComplaint = 4000;

export interface ChildOptions {
  /**
   * Called once the child answers: begins to watch its memory, and returns what ends that. `onExceeded` reports that it
   * holds too much, and kills it.
   */
  watch?: (pid: number, onExceeded: () => void) => Promise<() => void>;
}

/**
 * A child process that runs the Python harness as an interpreter: file descriptor 3 is the channel, and what the child
 * writes to standard error is read only to say why it did not start.
 *
 * Resolves once the harness has answered a first request, so that whoever gets the interpreter waits for no boot.
 * @throws Error with the end of the child's complaint where it ends before
 */
export function childInterpreter(child: ChildProcess, { watch }: ChildOptions = {}): Promise<Interpreter> {
  const channel = child.stdio[3] as Duplex;
  // `close` comes after the last process inside has let go of the channel: then nothing is left.
  const exited = new Promise<void>((resolve) =>
    child.once('close', () => resolve()).once('error', () => resolve()),
  );
  let complaint = '';
  child.stderr!.on('data', (data: Buffer) => {
    if (complaint.length < mostComplaint) complaint += data.toString();
  });
  let unwatch = () => {};
  // Its end is told once: a child that a watchdog killed crashes, too, and so does one that we killed.
  let told = false;
  const tell: Interpreter['onEnd'] = (kind, message) => {
    if (told) return;
    told = true;
    interpreter.onEnd(kind, message);
  };
  const interpreter: Interpreter = {
    send: (line) => void channel.write(`${line}\n`),
    onLine: () => {},
    onEnd: () => {},
    ended: false,
    kill: async () => {
      told = true;
      unwatch();
      child.kill('SIGKILL');
      await exited;
    },
  };
  // Writing to a child that has just died is reported by its end, in plainer words than EPIPE.
  channel.on('error', () => {});
  channel.on(
    'data',
    lineReader((line) => interpreter.onLine(line)),
  );
  const begin = async () => {
    unwatch =
      (await watch?.(child.pid!, () => {
        tell('memory', 'held more than the memory limit');
        child.kill('SIGKILL');
      })) ?? unwatch;
  };
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => {
      unwatch();
      interpreter.ended = true;
      // Without effect where it had started: the promise is settled then.
      reject(new Error(complaint.trim().split('\n').slice(-8).join(' ') || 'it ended at once'));
      tell('crash', `the interpreter ended (${signal ?? `status ${status}`})`);
    });
    // The harness says that it begins, then gives the value.
    interpreter.onLine = (line) => {
      if (line.includes('"value"')) void begin().then(() => resolve(interpreter), reject);
    };
    interpreter.send('{"op":"value","nonce":"","source":"None"}');
  });
}
