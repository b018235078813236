import { AnnealError } from '../../core/errors.js';
import type { Rng } from '../../core/random.js';
import { checkRange, choose, drawIn, problemRng, type Range } from './task.js';

/** What an operation of a word problem does to the number so far. */
export type WordOperator = '+' | '-' | '*' | '/';

/** A word problem with everything that it was made of. */
export interface WordProblem {
  readonly question: string;
  /** A positive integer. */
  readonly answer: number;
  /** The calculation, an operation a line: `7 + 5 = 12`. */
  readonly steps: readonly string[];
  readonly operators: readonly WordOperator[];
}

/** Settings of `wordProblems`: they are its difficulty. */
export interface WordProblemOptions {
  /** Operations of a problem, at most 3. Default 1 to 2. */
  operations?: Range;
  /** The first number, and what is added or taken away; from 2 on. Default 2 to 20. */
  numbers?: Range;
  /** What is multiplied by, and divided by; from 2 on. Default 2 to 5. */
  factors?: Range;
  /** Which operations occur. Default all four; `/` only ever comes last. */
  operators?: readonly WordOperator[];
}

/** An endless supply of problems. */
export interface WordProblems {
  /** A pure function: a run that resumes needs no cursor, and different seeds are different splits. */
  problem(seed: number, index: number): WordProblem;
}

const names = [
  'Anna',
  'Ben',
  'Carla',
  'David',
  'Emma',
  'Farid',
  'Grace',
  'Hugo',
  'Ines',
  'Jack',
  'Kofi',
  'Lena',
];
const things = [
  ...['apples', 'marbles', 'stickers', 'books', 'coins', 'pencils', 'shells', 'cards', 'eggs', 'balloons'],
  ...['cookies', 'stamps', 'flowers', 'buttons'],
];
const boxes = ['bags', 'boxes', 'baskets', 'jars'];

/** Who has how many of what, so far in a story. */
interface Story {
  readonly rng: Rng;
  readonly thing: string;
  /** Names that have not occurred. */
  readonly others: string[];
  holder: string;
  value: number;
  readonly sentences: string[];
  readonly steps: string[];
  readonly operators: WordOperator[];
  question: string;
}

/** Carries out an operation, and puts it down as a line of the calculation. */
function calculate(story: Story, operator: WordOperator, operand: number): void {
  const { value } = story;
  const results = { '+': value + operand, '-': value - operand, '*': value * operand, '/': value / operand };
  story.value = results[operator];
  story.steps.push(`${value} ${operator} ${operand} = ${story.value}`);
  story.operators.push(operator);
}

/** A name that is new in the story. */
const another = ({ rng, others }: Story): string =>
  others.splice(rng.integers(1, 0, others.length)[0]!, 1)[0]!;

/** Ways to tell an addition of n; those that tell of somebody else's things change who the story is about. */
function tellAddition(story: Story, n: number): string {
  const { rng, holder, thing } = story;
  const kind = drawIn(rng, [0, 3]);
  if (kind === 0) return `${holder} buys ${n} more ${thing}.`;
  if (kind === 1) return `Then ${holder} finds ${n} more ${thing}.`;
  const other = another(story);
  if (kind === 2) return `${other} gives ${holder} ${n} more ${thing}.`;
  story.holder = other;
  return `${other} has ${n} more ${thing} than ${holder}.`;
}

function tellSubtraction(story: Story, n: number): string {
  const { rng, holder, thing } = story;
  const kind = drawIn(rng, [0, 3]);
  if (kind === 0) return `${holder} loses ${n} of the ${thing}.`;
  if (kind === 1) return `${holder} sells ${n} of them.`;
  const other = another(story);
  if (kind === 2) return `${holder} gives ${n} ${thing} to ${other}.`;
  story.holder = other;
  return `${other} has ${n} fewer ${thing} than ${holder}.`;
}

function tellProduct(story: Story, n: number): string {
  const { holder, thing } = story;
  const other = another(story);
  story.holder = other;
  return `${other} has ${n} times as many ${thing} as ${holder}.`;
}

/** A number of the range that fits the operation here; undefined where there is none. */
function operandOf(
  { rng, value }: Story,
  operator: WordOperator,
  { numbers, factors }: { numbers: Range; factors: Range },
): number | undefined {
  if (operator === '+') return drawIn(rng, numbers);
  if (operator === '*') return drawIn(rng, factors);
  if (operator === '-') {
    // Something is left: a story of nothing needs other words.
    const most = Math.min(numbers[1], value - 1);
    return numbers[0] <= most ? drawIn(rng, [numbers[0], most]) : undefined;
  }
  const divisors: number[] = [];
  for (let n = factors[0]; n <= Math.min(factors[1], value); n++) if (value % n === 0) divisors.push(n);
  return divisors.length > 0 ? choose(rng, divisors) : undefined;
}

/** A story before its first operation, or with a product as its first: so many boxes of so many things each. */
function begin(rng: Rng, settings: Required<WordProblemOptions>, count: number): Story {
  const holder = choose(rng, names);
  const story: Story = {
    rng,
    ...{ holder, thing: choose(rng, things), others: names.filter((name) => name !== holder) },
    value: drawIn(rng, settings.numbers),
    ...{ sentences: [], steps: [], operators: [], question: '' },
  };
  const startsInBoxes = count > 0 && settings.operators.includes('*') && rng.next() < 0.25;
  if (startsInBoxes) {
    const { thing, value } = story;
    const each = drawIn(rng, settings.factors);
    story.sentences.push(`${holder} has ${value} ${choose(rng, boxes)} with ${each} ${thing} in each.`);
    calculate(story, '*', each);
  } else story.sentences.push(`${holder} has ${story.value} ${story.thing}.`);
  return story;
}

/** Adds an operation and the sentence that tells it. */
function goOn(story: Story, settings: Required<WordProblemOptions>, isLast: boolean): void {
  const possible = settings.operators.filter((one) => one !== '/' || isLast);
  const drawn = story.rng.permutation(possible.length);
  for (const index of drawn) {
    const operator = possible[index]!;
    const operand = operandOf(story, operator, settings);
    if (operand === undefined) continue;
    const { holder, thing } = story;
    if (operator === '/') {
      story.sentences.push(`${holder} shares the ${thing} equally among ${operand} friends.`);
      story.question = `How many ${thing} does each friend get?`;
    } else {
      const tell = { '+': tellAddition, '-': tellSubtraction, '*': tellProduct }[operator];
      story.sentences.push(tell(story, operand));
    }
    calculate(story, operator, operand);
    return;
  }
}

function check({ operations, numbers, factors, operators }: Required<WordProblemOptions>): void {
  const task = 'word-problems';
  checkRange(task, 'operations', operations, 1);
  if (operations[1] > 3)
    throw new AnnealError(
      `${task}: operations is ${operations[0]} to ${operations[1]}; at most 3 can be told`,
    );
  // From two on, things are many: "1 books" is no English.
  checkRange(task, 'numbers', numbers, 2);
  checkRange(task, 'factors', factors, 2);
  if (!operators.some((one) => one === '+' || one === '*'))
    throw new AnnealError(
      `${task}: operators are ${operators.join(', ') || 'none'}; there must be + or *, which are always possible`,
    );
}

/**
 * Arithmetic word problems from templates: "Ben has 7 apples. Carla has 3 times as many apples as Ben. How many apples does
 * Carla have now?" Every number so far is a positive integer, and division leaves no rest. What a model has to find out
 * is which operation each sentence means; ranges make the arithmetic itself as hard as one likes.
 * @throws AnnealError for impossible ranges
 */
export function wordProblems(options: WordProblemOptions = {}): WordProblems {
  const { operations = [1, 2], numbers = [2, 20], factors = [2, 5] } = options;
  const operators = options.operators ?? ['+', '-', '*', '/'];
  const settings = { operations, numbers, factors, operators };
  check(settings);
  return {
    problem(seed, index) {
      const rng = problemRng('word-problems', seed, index);
      const count = drawIn(rng, operations);
      const story = begin(rng, settings, count);
      while (story.steps.length < count) goOn(story, settings, story.steps.length === count - 1);
      const { thing, holder, sentences, value, steps } = story;
      const question = story.question || `How many ${thing} does ${holder} have now?`;
      return {
        question: [...sentences, question].join(' '),
        answer: value,
        ...{ steps, operators: story.operators },
      };
    },
  };
}
