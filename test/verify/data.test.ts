import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import {
  answerVerifier,
  type MathVerifierOptions,
  mathVerifier,
  type RuleVerifier,
  type Verdict,
} from '../../src/verify/index.js';

const folder = fileURLToPath(new URL('../../../shared/data/', import.meta.url));
const hasData = existsSync(`${folder}math500.jsonl`);
if (!hasData) console.log(`skipped: the accuracy of rule verifiers needs the data sets of ${folder}`);

// biome-ignore lint/suspicious/noExplicitAny: rows of several files
const read = (name: string): any[] =>
  readFileSync(folder + name, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

interface Case {
  answer: string;
  reference: string;
  question?: string;
  isRight: boolean;
  verifier: RuleVerifier;
}

/** Accuracy with abstentions as "not correct", both kinds of errors, and times. */
function measure(name: string, list: readonly Case[]) {
  const found = list.map(({ verifier, isRight, ...item }) => ({
    isRight,
    verdict: verifier.verify(item) as Verdict,
  }));
  const count = (test: (one: (typeof found)[number]) => boolean) => found.filter(test).length;
  const says = (one: (typeof found)[number]) => one.verdict.verdict === 'correct';
  const falseAccepts = count((one) => says(one) && !one.isRight);
  const falseRejects = count((one) => !says(one) && one.isRight);
  const negatives = count((one) => !one.isRight);
  const abstained = count((one) => one.verdict.verdict === 'abstain');
  const times = found.map((one) => one.verdict.ms).sort((a, b) => a - b);
  const result = {
    accuracy: 1 - (falseAccepts + falseRejects) / found.length,
    falseAccepts,
    falseRejects,
    negatives,
    mean: times.reduce((sum, ms) => sum + ms, 0) / times.length,
    p99: times[Math.floor(times.length * 0.99)]!,
  };
  console.log(
    `${name}: ${found.length} items, accuracy ${(100 * result.accuracy).toFixed(1)} %, false accepts ${falseAccepts} of ${negatives} negatives, false rejects ${falseRejects}, abstained ${abstained}, mean ${result.mean.toFixed(2)} ms, p99 ${result.p99.toFixed(1)} ms`,
  );
  return result;
}

const math = mathVerifier();

describe.skipIf(!hasData)('accuracy on real data', () => {
  it("Math-Verify's own cases", () => {
    const list = read('math_verify_triples.dev.jsonl').map(({ gold, answer, expected, config }): Case => {
      const options: MathVerifierOptions = {
        tolerance: { digits: config.floatDigits },
        setFromRelation: config.allowSetRelation,
        strictSymbols: config.strict,
        boxedFirst: config.boxedFirst,
        targets: config.targets,
      };
      return { answer, reference: gold, isRight: expected, verifier: mathVerifier(options) };
    });
    const { accuracy, falseAccepts } = measure('Math-Verify triples', list);
    expect(accuracy).toBeGreaterThanOrEqual(0.95);
    expect(falseAccepts).toBe(0);
  });

  it('HardVerify-Math', () => {
    const list = read('hardverify_math.dev.jsonl').map(
      ({ gold, answer, expected }): Case => ({ answer, reference: gold, isRight: expected, verifier: math }),
    );
    const { accuracy, falseAccepts, negatives } = measure('HardVerify-Math', list);
    expect(accuracy).toBeGreaterThanOrEqual(0.85);
    expect(falseAccepts / negatives).toBeLessThanOrEqual(0.01);
  });

  it('VerifyBench-Hard by rules alone', () => {
    const verifier = answerVerifier();
    const list = read('verifybench_hard.dev.jsonl').map(
      ({ answer, completion, question, gold_correct }): Case => ({
        answer: completion,
        reference: answer,
        question,
        isRight: gold_correct,
        verifier,
      }),
    );
    expect(measure('VerifyBench-Hard', list).accuracy).toBeGreaterThanOrEqual(0.9);
  });

  it('MATH-500: answers against solutions, in both directions', () => {
    const list = read('math500.jsonl').flatMap(({ answer, solution }): Case[] => [
      { answer: solution, reference: answer, isRight: true, verifier: math },
      { answer: `\\boxed{${answer}}`, reference: solution, isRight: true, verifier: math },
    ]);
    const { accuracy, mean, p99 } = measure('MATH-500', list);
    expect(accuracy).toBeGreaterThanOrEqual(0.998);
    // Far from the measured times, which are below 1 and 10 ms: this catches runaways on slow machines only.
    expect(mean).toBeLessThan(10);
    expect(p99).toBeLessThan(200);
  });

  it('MATH-500: no answer passes for another', () => {
    const rows = read('math500.jsonl');
    // A shift of the references: pairs that are equal by chance are left out by their text.
    const list = rows.flatMap(({ answer }, i): Case[] => {
      const other = rows[(i + 7) % rows.length].answer;
      return answer === other ? [] : [{ answer, reference: other, isRight: false, verifier: math }];
    });
    expect(measure('MATH-500, wrong pairs', list).falseAccepts).toBeLessThanOrEqual(1);
  });

  it('model solutions of GSM8K', () => {
    const list = read('gsm8k_model_solutions.dev.jsonl').map(
      ({ gold, completion, expected }): Case => ({
        answer: completion,
        reference: gold,
        isRight: expected,
        verifier: math,
      }),
    );
    expect(measure('GSM8K', list).accuracy).toBe(1);
  });
});
