/** How often rules agree with people, and what they take and how they fail where they do not. */
import type { Row, RunOptions } from '../harness.js';
import { type Case, casesOf, SETS, type SetName } from './cases.js';
import { claimed, missing, percent, type RowId } from './rows.js';

/** What was found on a set; an abstention accepts nothing. */
export interface Counts {
  items: number;
  wrong: number;
  falseAccepts: number;
  falseRejects: number;
  abstained: number;
  /** The answers that were accepted though the data call them wrong. */
  accepted: Case[];
}

/** Verifies every case once. */
export function count(cases: readonly Case[]): Counts {
  const counts: Counts = {
    items: cases.length,
    wrong: 0,
    falseAccepts: 0,
    falseRejects: 0,
    abstained: 0,
    accepted: [],
  };
  for (const one of cases) {
    const { verdict } = one.verifier.verify(one);
    if (!one.isRight) counts.wrong++;
    if (verdict === 'abstain') counts.abstained++;
    if (verdict === 'correct' && !one.isRight) {
      counts.falseAccepts++;
      counts.accepted.push(one);
    }
    if (verdict !== 'correct' && one.isRight) counts.falseRejects++;
  }
  return counts;
}

const rowsOf: Record<SetName, readonly RowId[]> = {
  triples: ['triples', 'triples-accepts'],
  hardverify: ['hardverify', 'hardverify-accepts'],
  verifybench: ['verifybench', 'verifybench-accepts', 'verifybench-rejects'],
  math500: ['math500'],
  gsm8k: ['gsm8k'],
};

const short = (text: string) => JSON.stringify(text.length > 60 ? `…${text.slice(-60)}` : text);

/** What the accepted answers were, so that a reader can judge the label. */
const shown = (accepted: readonly Case[]): string =>
  accepted
    .slice(0, 3)
    .map(({ answer, reference }) => `; accepted: ${short(answer)} for ${short(reference)}`)
    .join('');

function rowOf(id: RowId, counts: Counts): Row {
  const { items, wrong, falseAccepts, falseRejects, abstained, accepted } = counts;
  const repeats = 1;
  const right = items - wrong;
  if (id.endsWith('-accepts')) {
    if (wrong === 0) return claimed(id, { value: null, note: 'the set has no wrong answers' });
    const note = `${falseAccepts} of ${wrong} wrong answers${shown(accepted)}`;
    return claimed(id, { value: percent(falseAccepts, wrong), repeats, note });
  }
  if (id.endsWith('-rejects')) {
    const note = `${falseRejects} of ${right} right answers`;
    return claimed(id, { value: percent(falseRejects, right), repeats, note });
  }
  const note = `${items} items; ${falseAccepts} wrong ones accepted, ${falseRejects} right ones not, ${abstained} abstentions; always "no" has ${percent(wrong, items).toFixed(1)} %`;
  return claimed(id, { value: percent(items - falseAccepts - falseRejects, items), repeats, note });
}

/** The rows of accuracy. */
export function accuracyRows({ wants, data, log }: RunOptions): Row[] {
  return SETS.flatMap((set) => {
    const ids = rowsOf[set].filter(wants);
    if (ids.length === 0) return [];
    log(`verify: ${set}`);
    const found = casesOf(data, set);
    if ('reason' in found) return missing(ids, found.reason);
    const counts = count(found.cases);
    return ids.map((id) => rowOf(id, counts));
  });
}
