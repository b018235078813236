import { AnnealError } from '../../core/errors.js';
import type { Rng } from '../../core/random.js';
import { evaluateExpression } from './expression.js';
import { checkRange, choose, drawIn, problemRng, type Range, type StepTask } from './task.js';

/** Numbers of which each is to be used once to reach the target. */
export interface CountdownProblem {
  readonly numbers: readonly number[];
  readonly target: number;
  /** One solution, from which the problem was made. */
  readonly moves: readonly Move[];
}

/** Combines two numbers at hand into one. */
export interface Move {
  readonly left: number;
  readonly operator: '+' | '-' | '*' | '/';
  readonly right: number;
  readonly result: number;
}

/** Settings of `countdown`. */
export interface CountdownOptions {
  /** How many numbers; default 3 to 4. */
  count?: Range;
  /** The numbers; default 1 to 9. */
  numbers?: Range;
  /** The target; default 1 to 99. */
  target?: Range;
}

/** A number at hand, and the expression that made it. */
interface Item {
  value: number;
  text: string;
}

const operators = ['+', '-', '*', '/'] as const;

/** The result where it is a whole number of 0 or more, as in the game; else undefined. */
function resultOf(left: number, operator: Move['operator'], right: number): number | undefined {
  if (operator === '+') return left + right;
  if (operator === '*') return left * right;
  if (operator === '-') return left >= right ? left - right : undefined;
  return right > 0 && left % right === 0 ? left / right : undefined;
}

/** A random legal move of the numbers at hand; a sum always is one. */
function randomMove(hand: readonly number[], rng: Rng): Move {
  for (let tries = 0; ; tries++) {
    const [i, j] = rng.permutation(hand.length);
    const [left, right] = [hand[i!]!, hand[j!]!];
    const operator = tries < 20 ? choose(rng, operators) : '+';
    const result = resultOf(left, operator, right);
    if (result !== undefined && result < 1e6) return { left, operator, right, result };
  }
}

/** Replaces a move's numbers by its result. Undefined if they are not at hand. */
function play(hand: readonly Item[], { left, operator, right, result }: Move): Item[] | undefined {
  const i = hand.findIndex(({ value }) => value === left);
  const j = hand.findIndex(({ value }, at) => value === right && at !== i);
  if (i < 0 || j < 0) return undefined;
  const text = `(${hand[i]!.text}${operator}${hand[j]!.text})`;
  return [...hand.filter((_, at) => at !== i && at !== j), { value: result, text }];
}

const itemsOf = (numbers: readonly number[]): Item[] =>
  numbers.map((value) => ({ value, text: String(value) }));

const writeMove = ({ left, operator, right, result }: Move) => `${left}${operator}${right}=${result}`;

function readMove(step: string): Move | undefined {
  const match = /^(\d{1,12})([+\-*/])(\d{1,12})=(\d{1,12})$/.exec(step);
  if (!match) return undefined;
  const operator = match[2] as Move['operator'];
  return { left: Number(match[1]), operator, right: Number(match[3]), result: Number(match[4]) };
}

/** The expression that moves build, without the outermost brackets. */
function expressionOf(numbers: readonly number[], moves: readonly Move[]): string {
  const last = moves.reduce<Item[]>((hand, move) => play(hand, move) ?? hand, itemsOf(numbers)).at(-1)!;
  return moves.length ? last.text.slice(1, -1) : last.text;
}

/** Random moves until one number is left; each result is right with probability `accuracy`. */
function randomMoves(numbers: readonly number[], rng: Rng, accuracy = 1): Move[] {
  const moves: Move[] = [];
  let hand = itemsOf(numbers);
  while (hand.length > 1) {
    const move = randomMove(
      hand.map(({ value }) => value),
      rng,
    );
    const isRight = accuracy === 1 || rng.next() < accuracy;
    const played = isRight ? move : { ...move, result: move.result + drawIn(rng, [1, 9]) };
    hand = play(hand, played)!;
    moves.push(played);
  }
  return moves;
}

/** Judges steps one after the other: numbers that are at hand, and arithmetic that is right. */
function follow(numbers: readonly number[], steps: readonly string[]) {
  let hand = itemsOf(numbers);
  return steps.map((step) => {
    const move = readMove(step);
    const after = move && play(hand, move);
    // A stated result goes on, right or not, so that each step is judged by itself.
    hand = after ?? hand;
    return { move, isLegal: after !== undefined };
  });
}

/**
 * Countdown: an expression that reaches the target with each number exactly once. An answer is judged by itself; a step
 * combines two numbers at hand, and is right if they are at hand and the result is right.
 */
export function countdown(options: CountdownOptions = {}): StepTask<CountdownProblem> {
  const name = 'countdown';
  const { count = [3, 4], numbers = [1, 9], target = [1, 99] } = options;
  checkRange(name, 'count', count, 2);
  checkRange(name, 'numbers', numbers, 0);
  checkRange(name, 'target', target, 0);
  const right = ({ left, operator, right }: Move) => resultOf(left, operator, right);
  return {
    name,
    alphabet: '0123456789+-*/=() >',
    phrases: [],
    problem(seed, index) {
      const rng = problemRng(name, seed, index);
      for (let tries = 0; tries < 1000; tries++) {
        const drawn = Array.from({ length: drawIn(rng, count) }, () => drawIn(rng, numbers));
        const moves = randomMoves(drawn, rng);
        const { result } = moves.at(-1)!;
        // A number that is already there would make the answer "target" look like work.
        if (result >= target[0] && result <= target[1] && !drawn.includes(result))
          return { numbers: drawn, target: result, moves };
      }
      throw new AnnealError(
        `${name}: no target in ${target[0]} to ${target[1]} was found in 1,000 draws; widen the range`,
      );
    },
    question: (problem) => `${problem.numbers.join(' ')} > ${problem.target}`,
    solution: (problem) => ({
      steps: problem.moves.map(writeMove),
      answer: expressionOf(problem.numbers, problem.moves),
    }),
    noisySolution(problem, accuracy, rng) {
      const moves = randomMoves(problem.numbers, rng, accuracy);
      return { steps: moves.map(writeMove), answer: expressionOf(problem.numbers, moves) };
    },
    isCorrect(problem, answer) {
      const read = evaluateExpression(answer);
      const sorted = (list: readonly number[]) => [...list].sort((a, b) => a - b).join(' ');
      const isUsed = read !== undefined && sorted(read.numbers) === sorted(problem.numbers);
      return isUsed && read.value?.d === 1 && read.value.n === problem.target;
    },
    isConsistent(problem, { steps, answer }) {
      const found = follow(problem.numbers, steps);
      const isWhole = steps.length === problem.numbers.length - 1 && found.every(({ isLegal }) => isLegal);
      const moves = found.flatMap(({ move }) => move ?? []);
      const read = evaluateExpression(answer);
      if (!isWhole || !read) return false;
      // The answer's value is that of the expression which the steps build, however it is written.
      const built = evaluateExpression(expressionOf(problem.numbers, moves))!;
      return built.value?.n === read.value?.n && built.value?.d === read.value?.d;
    },
    stepLabels: (problem, steps) =>
      follow(problem.numbers, steps).map(({ move, isLegal }) => isLegal && right(move!) === move!.result),
    stated: (step) => step.slice(step.lastIndexOf('=') + 1),
    restate: (problem, steps) =>
      follow(problem.numbers, steps).map(({ move, isLegal }) => {
        const value = isLegal ? right(move!) : undefined;
        return value === undefined ? '' : String(value);
      }),
  };
}
