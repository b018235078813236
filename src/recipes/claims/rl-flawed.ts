/** Claims about verifiers that go wrong: class imbalance, and one that praises the wrong steps. */
import type { LastLetterProblem, Range, ScriptedVerifier } from '../../rl/index.js';
import { last, late, type Measure, type RlExperiment } from './rl-cells.js';
import { tangoArm } from './rl-tango.js';
import { longest } from './rl-world.js';

/**
 * Two or three words: about one solution in twenty is right. The generator never learns, so it stays so. A step of the
 * verifier has 96 solutions: of 24 most steps have no right one at all, and weights cannot make up for that.
 */
const rare = {
  words: [2, 3] as Range,
  steps: 40,
  every: 8,
  oversample: 1,
  verifierPrompts: 4,
  fixed: 'generator' as const,
  measuredOn: 'fresh' as const,
  measured: 16,
};
const unbalanced = tangoArm({ ...rare, name: 'no balancing', balance: 'none' });
const squareRoot = tangoArm({ ...rare, name: 'square root', balance: 'sqrt-inverse' });
const inverse = tangoArm({ ...rare, name: 'inverse', balance: 'inverse' });

export const balanceExperiment: RlExperiment = {
  name: 'balance',
  title: 'Class balancing, where few solutions are right',
  claim:
    'Without class weights the verifier ends at "always incorrect"; with them not: F1 differs by 0.2 or more. Measured on solutions of the generator, over the last three of six evaluations.',
  arms: [unbalanced, squareRoot, inverse],
  measures: [
    late('solutions that are right', 'actuallyCorrect'),
    late('verdicts "correct"', 'predictedCorrect'),
    late('F1 of answers', 'outcomeF1'),
    late('balanced accuracy of answers', 'outcomeBalanced'),
    late('accuracy of answers', 'outcomeAccuracy'),
    late('F1 of steps', 'stepF1'),
  ],
  contrasts: [
    ['square root', 'no balancing'],
    ['inverse', 'no balancing'],
  ],
  charts: [
    {
      title: 'F1 of answers',
      x: 'steps.verifier',
      xLabel: 'steps of the verifier',
      y: [{ metric: 'outcomeF1', label: '' }],
    },
    {
      title: 'Share of verdicts "correct"',
      x: 'steps.verifier',
      xLabel: 'steps of the verifier',
      y: [{ metric: 'predictedCorrect', label: '' }],
    },
  ],
};

/** Praises a step if and only if it says the word's first letter, which is the habit of the warm start. */
const praisesHabit: ScriptedVerifier<LastLetterProblem> = ({ words }, { steps }, { isCorrect }) => ({
  verdicts: steps.map(({ text }, k) => words[k] !== undefined && text.at(-1) === words[k][0]),
  final: !isCorrect,
});

const misled = { scripted: praisesHabit, measuredOn: 'nothing' as const, steps: 72, every: 6 };
const [short, long] = [[2, 2] as Range, [longest, longest] as Range];
/** From the paper's weight; constant at it; constant at that of its REINFORCE++. */
const weights = {
  decaying: { kind: 'exponential', start: 0.1, end: 1e-3 },
  'constant 0.1': { kind: 'constant', start: 0.1 },
  'constant 0.5': { kind: 'constant', start: 0.5 },
} as const;
const misledArm = (length: 'short' | 'long', weight: keyof typeof weights) =>
  tangoArm({
    ...misled,
    name: `misled, ${length}, ${weight}`,
    words: length === 'short' ? short : long,
    alpha: weights[weight],
  });
const arms = {
  shortDecaying: misledArm('short', 'decaying'),
  shortWeak: misledArm('short', 'constant 0.1'),
  shortStrong: misledArm('short', 'constant 0.5'),
  longDecaying: misledArm('long', 'decaying'),
  longStrong: misledArm('long', 'constant 0.5'),
};

/** The lowest value on the way. */
const lowest = (name: string, metric: string): Measure => ({
  ...last(name, metric),
  value: (points) => Math.min(...points.flatMap((point) => point[metric] ?? [])),
});

export const misleadingExperiment: RlExperiment = {
  name: 'misleading',
  title: 'A verifier that praises the wrong steps',
  claim:
    'On short chains (2 words) accuracy recovers while the weight of step rewards decays from 0.1, and is destroyed where it stays 0.5. Long chains (4 words) are reported.',
  arms: Object.values(arms),
  measures: [
    { ...last('accuracy at the start', 'accuracy'), value: (points) => points[0]?.accuracy },
    lowest('lowest accuracy', 'accuracy'),
    last('accuracy at the end', 'accuracy'),
    last('right steps at the end', 'stepAccuracy'),
  ],
  contrasts: [
    [arms.shortDecaying.name, arms.shortStrong.name],
    [arms.shortDecaying.name, arms.shortWeak.name],
    [arms.longDecaying.name, arms.longStrong.name],
  ],
  charts: [
    {
      title: 'Accuracy by the rule',
      x: 'steps.generator',
      xLabel: 'steps of the generator',
      y: [{ metric: 'accuracy', label: '' }],
    },
    {
      title: 'Paid beyond what is right: mean verdict minus mean label',
      x: 'steps.generator',
      xLabel: 'steps of the generator',
      y: [{ metric: 'hackGap', label: '' }],
    },
  ],
};
