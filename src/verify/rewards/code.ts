import { AnnealError } from '../../core/errors.js';
import type { CodeProblem, CodeVerdict } from '../code/problem.js';
import { type SplitOptions, splitTests } from '../code/split-tests.js';
import type { CodeVerifier } from '../code/verifier.js';
import { type Inspection, inspectProgram } from '../hacking/inspect.js';
import { type HackMonitor, type HackPolicy, verdictReward } from '../hacking/monitor.js';
import { problemOf } from '../service/rows.js';
import { completionOf, exampleOf, type RewardExample, type SampleReward, type Scored } from './sample.js';

export interface CodeRewardOptions {
  /** Runs the programs; its owner closes it. */
  verifier: CodeVerifier;
  /** The problem of an example. Default: its field `problem`, or the example itself. */
  problem?: (example: RewardExample) => CodeProblem;
  /** What a flag does to the reward; default `penalise`. */
  policy?: HackPolicy;
  /**
   * How tests are hidden where the problem marks none as hidden; false leaves all visible. Show the policy
   * `visibleTests(problem)` only.
   */
  split?: SplitOptions | false;
  /** Counts what programs do, for a report at the end of a run. */
  monitor?: HackMonitor;
}

/** A program's score, with the static detectors' word. */
export interface ScoredProgram extends Scored<CodeVerdict> {
  inspection: Inspection;
}

/** A problem's tests that a prompt may show. */
export const visibleTests = ({ tests }: CodeProblem): CodeProblem['tests'] =>
  tests.filter(({ visible }) => visible !== false);

const ownProblem = (example: RewardExample): CodeProblem =>
  problemOf(example.problem ?? example, 'an example');

/**
 * Rewards programs: 1 where every test passed, the hidden ones included, else 0; no share for some of them. What an
 * anti-hack policy says of a flagged program comes on top. Null where the sandbox failed or the policy drops the sample.
 */
export function codeReward(options: CodeRewardOptions): SampleReward<ScoredProgram> {
  const { verifier, problem: problemFrom = ownProblem, policy = 'penalise', split = {}, monitor } = options;
  if (!['penalise', 'drop', 'log'].includes(policy))
    throw new AnnealError(`policy is ${JSON.stringify(policy)}; pass penalise, drop or log`);
  // A group of samples shares its example: the split and the pairs of its tests are made once.
  const problems = new WeakMap<RewardExample, CodeProblem>();
  const problemFor = (example: RewardExample): CodeProblem => {
    let problem = problems.get(example);
    if (!problem) {
      const given = problemFrom(example);
      const isSplit = given.tests.some(({ visible }) => visible === false);
      problem = split === false || isSplit ? given : splitTests(given, split);
      problems.set(example, problem);
    }
    return problem;
  };
  return async (sample) => {
    const problem = problemFor(exampleOf(sample));
    const verdict = await verifier.verify(problem, completionOf(sample));
    const inspection = inspectProgram(problem, verdict.extracted ?? '');
    const score = verdictReward(verdict, inspection, policy);
    monitor?.add(problem, verdict, { inspection, policy });
    return { score, verdict, inspection };
  };
}
