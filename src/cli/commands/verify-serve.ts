import { createVerifyServer } from '../../verify/service/server.js';
import type { Verifier } from '../../verify/verdict.js';
import type { Listening } from '../flags.js';
import type { Cli } from '../terminal.js';
import { untilInterrupted } from './listen.js';
import { chooseVerifier, type JudgeFlags } from './verify-judge.js';

interface Flags extends JudgeFlags, Listening {
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
  // Taken over before anything is loaded, so that Ctrl-C meanwhile ends the command in good order.
  terminal.interrupts();
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
    await untilInterrupted(terminal);
  } finally {
    await server.close();
    await close();
  }
}
