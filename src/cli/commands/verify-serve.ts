import { createVerifyServer } from '../../verify/service/server.js';
import type { Verifier } from '../../verify/verdict.js';
import type { Cli } from '../terminal.js';
import { chooseVerifier, type JudgeFlags } from './verify-judge.js';

interface Flags extends JudgeFlags {
  port: number;
  host: string;
  key?: readonly string[];
  workers?: number;
  /** Seconds. */
  deadline: number;
  /** Megabytes. */
  maxBody: number;
  maxRows: number;
  noCode?: boolean;
}

/** `anneal verify serve`: until Ctrl-C, which lets running requests finish; a second one ends them. */
export async function verifyServe(this: Cli, flags: Flags): Promise<void> {
  const { terminal } = this;
  const interrupt = terminal.interrupts();
  // The judge is opened before the port: a wrong key or model is known before the first client comes.
  const placeholder: Verifier = { name: 'rules', verify: (item) => rules.verify(item) };
  let rules = placeholder;
  const { verifier, close } = await chooseVerifier(placeholder, flags);
  const server = createVerifyServer({
    ...(flags.workers !== undefined && { workers: flags.workers }),
    ...(flags.key && { keys: flags.key }),
    ...(flags.noCode && { code: false as const }),
    deadlineMs: 1000 * flags.deadline,
    maxBodyBytes: flags.maxBody * 2 ** 20,
    maxRows: flags.maxRows,
    answers: (own) => {
      rules = own;
      return verifier === placeholder ? own : verifier;
    },
    onError: (error) =>
      terminal.warn(error instanceof Error ? (error.stack ?? error.message) : String(error)),
  });
  try {
    const { url } = await server.listen(flags.port, flags.host);
    terminal.print(`verifying with ${verifier.name} at ${url}/verify; Ctrl-C stops`);
    await new Promise<void>((resolve) => {
      if (interrupt.aborted) resolve();
      interrupt.addEventListener('abort', () => resolve(), { once: true });
    });
    terminal.warn('finishing what runs; Ctrl-C once more ends it');
  } finally {
    await server.close();
    await close();
  }
}
