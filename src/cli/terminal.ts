import type { CommandContext } from '@stricli/core';

/** What a command writes to and is interrupted by. */
export interface Terminal {
  /** Writes to standard output as it is. Once a reader has gone away (a closed pipe), writes are dropped. */
  write(text: string): void;
  /** Writes a line to standard output. */
  print(line: string): void;
  /** Standard output as a stream. */
  readonly stream: { write(text: string): void; readonly isTTY: boolean; readonly columns: number };
  /** Writes a line to standard error. */
  warn(line: string): void;
  /** Writes one JSON value on a line of its own. */
  json(value: unknown): void;
  /** A person watches: lines may be renewed and coloured. */
  readonly interactive: boolean;
  /** Width in characters. */
  readonly columns: number;
  /** Nobody reads standard output any more. */
  readonly closed: boolean;
  /** Aborts when nobody reads standard output any more. */
  readonly onClosed: AbortSignal;
  /**
   * Takes over Ctrl-C (SIGINT, and SIGTERM): the first one aborts the returned signal and makes the process exit
   * with 130 when the command returns, the second one exits at once.
   */
  interrupts(): AbortSignal;
  /** Ctrl-C was pressed. */
  readonly interrupted: boolean;
  /** Says that the user ended the command by Ctrl-C: the process exits with 130. */
  interrupt(): void;
}

/** Context of every command. */
export interface Cli extends CommandContext {
  readonly terminal: Terminal;
}

/** Exit codes: a mistake of the user, a defect, Ctrl-C. */
export const exitCodes = { user: 2, defect: 1, interrupted: 130 } as const;

/** The terminal of this process. */
export function processTerminal(): Terminal {
  const closed = new AbortController();
  const interrupt = new AbortController();
  const onError = (error: NodeJS.ErrnoException) => {
    // EPIPE: `anneal … | head`. The command's work is not the reader's business: go on in silence.
    if (error.code !== 'EPIPE' && error.code !== 'ERR_STREAM_DESTROYED') throw error;
    closed.abort();
  };
  process.stdout.on('error', onError);
  process.stderr.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE' && error.code !== 'ERR_STREAM_DESTROYED') throw error;
  });
  const write = (text: string) => {
    if (!closed.signal.aborted) process.stdout.write(text);
  };
  let taken = false;
  const interactive = process.stdout.isTTY === true;
  return {
    write,
    stream: {
      write,
      isTTY: interactive,
      get columns() {
        return process.stdout.columns || 100;
      },
    },
    print: (line) => write(`${line}\n`),
    warn: (line) => {
      process.stderr.write(`${line}\n`);
    },
    json: (value) => write(`${JSON.stringify(value)}\n`),
    interactive,
    get columns() {
      return process.stdout.columns || 100;
    },
    get closed() {
      return closed.signal.aborted;
    },
    onClosed: closed.signal,
    get interrupted() {
      return interrupt.signal.aborted;
    },
    interrupt: () => interrupt.abort(),
    interrupts() {
      if (!taken) {
        taken = true;
        const onSignal = () => {
          if (interrupt.signal.aborted) process.exit(exitCodes.interrupted);
          interrupt.abort();
        };
        process.on('SIGINT', onSignal);
        process.on('SIGTERM', onSignal);
      }
      return interrupt.signal;
    },
  };
}
