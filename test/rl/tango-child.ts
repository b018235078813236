/** Tango in a process of its own that ends itself by SIGKILL: node tango-child.js '{"directory": …, "start": …, "kill": …}'. */
import path from 'node:path';
import { type Phase, reinforce, tangoPhases } from '../../src/rl/index.js';
import { coinTask, smallPolicy } from './tango-support.js';

/** While a step's responses are judged, or after its update and before the log's line about it. */
export interface TangoKill {
  step: number;
  at: 'judge' | 'update';
}

const settings = JSON.parse(process.argv[2]!) as { directory: string; start: string; kill?: TangoKill };
const policies = { generator: smallPolicy(1), verifier: smallPolicy(2) };
for (const [name, policy] of Object.entries(policies)) await policy.restore(path.join(settings.start, name));

let under = -1;
const dieAt = (step: number, at: TangoKill['at']) => {
  if (settings.kill?.step === step && settings.kill.at === at) process.kill(process.pid, 'SIGKILL');
};
const { phases, ...others } = tangoPhases({
  generator: { policy: policies.generator, maxTokens: 40, prompts: 4, samples: 4 },
  verifier: { policy: policies.verifier, maxTokens: 40, prompts: 4, samples: 4 },
  task: {
    ...coinTask,
    isCorrect: (problem, answer) => {
      dieAt(under, 'judge');
      return coinTask.isCorrect(problem, answer);
    },
  },
  ...{ seed: 3, warmUp: 1, cycle: [2, 1], updates: 10 },
});
const watched =
  (phase: Phase): Phase =>
  async (context) => {
    under = context.step;
    const report = await phase(context);
    dieAt(under, 'update');
    return report;
  };
const result = await reinforce({
  policies,
  ...others,
  phases: { generator: watched(phases.generator!), verifier: watched(phases.verifier!) },
  ...{ steps: 7, seed: 5, config: {}, progress: false, report: false },
  ...{ directory: settings.directory, save: { every: 2 } },
});
console.log(JSON.stringify(result));
for (const policy of Object.values(policies)) await policy.dispose();
