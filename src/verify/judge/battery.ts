import type { Outcome, Verifier, VerifyItem } from '../verdict.js';
import { type AttackKind, attackKinds, attacksOn, batteryItems } from './attacks.js';
import { mapLimited } from './limit.js';

/** How often something happened, out of how many times. */
export interface BatteryRate {
  count: number;
  of: number;
}

/** An answer without a result that the judge accepted. */
export interface BatteryExample {
  kind: AttackKind;
  name: string;
  question: string;
  reference: string;
  /** Cut to 500 characters. */
  answer: string;
}

export interface JudgeBatteryReport {
  verifier: string;
  /** Of all attacks, those that the judge accepted; one that a judge rejects or abstains from is not. */
  accepted: BatteryRate;
  byKind: Record<AttackKind, BatteryRate>;
  /** Attacks on which the judge abstained: its reply had no verdict in it. */
  abstained: number;
  /**
   * Plain right answers that were accepted, and plain wrong ones that were rejected. A judge that rejects everything
   * withstands every attack and is of no use.
   */
  controls: { right: BatteryRate; wrong: BatteryRate };
  /** Attacks that were accepted, at most three of a kind. */
  examples: BatteryExample[];
}

export interface BatteryOptions {
  /** Questions with references and a wrong answer each; default: those built in. */
  items?: readonly BatteryItem[];
  /** Another seed, other gibberish; default 0. */
  seed?: number;
  /** Answers that are judged at once; default 16. */
  concurrency?: number;
  signal?: AbortSignal;
}

/** A question, its reference, and an answer that is plainly wrong. */
export interface BatteryItem {
  question: string;
  reference: string;
  wrong: string;
}

interface Trial {
  kind: AttackKind | 'right' | 'wrong';
  name: string;
  item: VerifyItem & { id: string; question: string };
}

/** Every attack on every item, and the two controls of each. */
function trialsOf(items: readonly BatteryItem[], seed: number): Trial[] {
  return items.flatMap((item, i) => {
    const { question, reference, wrong } = item;
    const trial = (kind: Trial['kind'], name: string, answer: string): Trial => ({
      kind,
      name,
      item: { id: `${name} on item ${i + 1}`, question, reference, answer },
    });
    return [
      trial('right', 'a right answer', `The final answer is ${reference}.`),
      trial('wrong', 'a wrong answer', `The final answer is ${wrong}.`),
      ...attacksOn(item, seed + i).map(({ kind, name, answer }) => trial(kind, name, answer)),
    ];
  });
}

/**
 * Shows a judge answers that hold no result, and counts what it accepts: one that passes such answers will be driven to
 * them by training (a lone "{" was enough in RL: "Pitfalls of rule- and model-based verifiers", arXiv 2505.22203).
 * Any verifier can be tried, the rules too.
 * @throws JudgeError at the first answer on which the judge itself fails
 */
export async function judgeBattery(
  verifier: Verifier,
  options: BatteryOptions = {},
): Promise<JudgeBatteryReport> {
  const { items = batteryItems, seed = 0, concurrency = 16, signal } = options;
  const trials = trialsOf(items, seed);
  const verdicts = await mapLimited(trials, concurrency, async ({ item }): Promise<Outcome> => {
    signal?.throwIfAborted();
    return (await verifier.verify(item)).verdict;
  });
  const rate = (kind: Trial['kind'] | undefined, wanted: Outcome): BatteryRate => {
    const isAttack = (one: Trial) => one.kind !== 'right' && one.kind !== 'wrong';
    const own = trials.map((one) => (kind === undefined ? isAttack(one) : one.kind === kind));
    const count = verdicts.filter((verdict, i) => own[i] && verdict === wanted).length;
    return { count, of: own.filter(Boolean).length };
  };
  const examples: BatteryExample[] = [];
  trials.forEach(({ kind, name, item }, i) => {
    if (verdicts[i] !== 'correct' || kind === 'right' || kind === 'wrong') return;
    if (examples.filter((one) => one.kind === kind).length >= 3) return;
    const { question, reference, answer } = item;
    examples.push({ kind, name, question, reference, answer: answer.slice(0, 500) });
  });
  return {
    verifier: verifier.name,
    accepted: rate(undefined, 'correct'),
    byKind: Object.fromEntries(attackKinds.map((kind) => [kind, rate(kind, 'correct')])) as Record<
      AttackKind,
      BatteryRate
    >,
    abstained: rate(undefined, 'abstain').count,
    controls: { right: rate('right', 'correct'), wrong: rate('wrong', 'incorrect') },
    examples,
  };
}

const shown = ({ count, of }: BatteryRate): string =>
  of === 0 ? 'none tried' : `${((100 * count) / of).toFixed(1)} % (${count} of ${of})`;

/** A report as Markdown. */
export function formatJudgeBattery(report: JudgeBatteryReport): string {
  return [
    `${report.verifier}: answers without a result that it accepts`,
    '',
    '| answers | accepted |',
    '| --- | --- |',
    ...Object.entries(report.byKind).map(([kind, one]) => `| ${kind} | ${shown(one)} |`),
    `| all of them | ${shown(report.accepted)} |`,
    '',
    `Abstained on ${report.abstained}. Controls: ${shown(report.controls.right)} of plain right answers accepted, ${shown(report.controls.wrong)} of plain wrong ones rejected.`,
    ...report.examples.map(
      ({ kind, name, answer }) => `- ${kind}, ${name}: ${JSON.stringify(answer.slice(0, 120))}`,
    ),
  ].join('\n');
}
