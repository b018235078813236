import { AnnealError } from '../../core/errors.js';
import { formatJudgeBattery, judgeBattery } from '../../verify/judge/battery.js';
import type { Verifier } from '../../verify/verdict.js';
import type { Cli } from '../terminal.js';
import { chooseVerifier, type JudgeFlags } from './verify-judge.js';

interface Flags extends JudgeFlags {
  seed: number;
  json?: boolean;
}

/** `anneal verify judge`: what share of answers without any result a judge lets pass. */
export async function verifyBattery(this: Cli, flags: Flags): Promise<void> {
  const { terminal } = this;
  if (flags.judge === undefined)
    throw new AnnealError('--judge is missing: name the model that is to be tried, an address or a file');
  if (flags.rulesFirst)
    throw new AnnealError('--rules-first hides the judge behind the rules; leave it out to try the judge');
  const none: Verifier = { name: 'none', verify: () => ({ verdict: 'abstain', reason: 'none', ms: 0 }) };
  const { verifier, close } = await chooseVerifier(none, flags);
  const signal = terminal.interrupts();
  const stop = () => void close();
  signal.addEventListener('abort', stop, { once: true });
  try {
    const options = { concurrency: 2 * flags.concurrency, seed: flags.seed, signal };
    const report = await judgeBattery(verifier, options);
    if (flags.json) terminal.json(report);
    else terminal.print(formatJudgeBattery(report));
  } catch (error) {
    // Ctrl-C: the exit code says it all.
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener('abort', stop);
    await close();
  }
}
