/** VerifyBench's items through a verifier. */
import { JudgeError } from '../judge/chat.js';
import type { Outcome, Verdict } from '../verdict.js';
import type { BenchItem } from './items.js';

/** What became of an item; a line of the JSONL file of a run. */
export interface BenchRecord {
  id: string;
  type: string;
  subtype?: string;
  domain?: string;
  /** The model that wrote the completion. */
  model?: string;
  /** What the annotators say. */
  expected: 'correct' | 'incorrect';
  /** `failed` where the verifier itself failed: nothing is known then. */
  verdict: Outcome | 'failed';
  reason: string;
  /** The verdict is the annotators'. */
  agrees: boolean;
  extracted?: string;
  ms: number;
  /** All that the verifier says beyond this, such as a judge's replies. */
  details?: Readonly<Record<string, unknown>>;
}

/** What the runner hands to a verifier. */
export interface BenchQuestion {
  id: string;
  question: string;
  reference: string;
  answer: string;
}

/** Anything that judges answers; every `Verifier` is one. */
export interface BenchVerifier {
  readonly name: string;
  verify(item: BenchQuestion): Verdict | Promise<Verdict>;
}

export interface BenchOptions {
  /** Items that are verified at once. Default 16; what bounds calls to an endpoint is the endpoint's own limit. */
  concurrency?: number;
  /** Ends the run; the promise rejects with its reason. */
  signal?: AbortSignal;
  /** Called with the record of each item, in the order of the items. */
  onRecord?: (record: BenchRecord) => void;
  onProgress?: (progress: { done: number; total: number; failed: number }) => void;
  /** Judges that fail on this many items in a row end the run. Default 5. */
  maxFailures?: number;
}

function recordOf(item: BenchItem, verdict: Verdict): BenchRecord {
  const { verdict: word, reason, extracted, ms, answer, reference, ...details } = verdict;
  const record = failedRecord(item, '');
  return {
    ...record,
    verdict: word,
    reason,
    agrees: word === record.expected,
    ...(extracted !== undefined && { extracted }),
    ms: Math.round(ms * 1000) / 1000,
    ...(Object.keys(details).length > 0 && { details: { ...details } }),
  };
}

function failedRecord({ id, type, subtype, domain, model, expected }: BenchItem, why: string): BenchRecord {
  return {
    id,
    type,
    ...(subtype !== undefined && { subtype }),
    ...(domain !== undefined && { domain }),
    ...(model !== undefined && { model }),
    expected: expected ? 'correct' : 'incorrect',
    verdict: 'failed',
    reason: why,
    agrees: false,
    ms: 0,
  };
}

/**
 * Verifies every item. An item on which a judge fails is recorded as `failed`, not as a verdict; where that happens
 * again and again the run ends with the judge's error.
 * @throws JudgeError after `maxFailures` failures in a row
 */
export async function runVerifyBench(
  verifier: BenchVerifier,
  items: readonly BenchItem[],
  options: BenchOptions = {},
): Promise<BenchRecord[]> {
  const { concurrency = 16, signal, onRecord, onProgress, maxFailures = 5 } = options;
  const records: BenchRecord[] = [];
  let [next, written, done, failed, inRow] = [0, 0, 0, 0, 0];
  let end: unknown;

  const finish = (index: number, record: BenchRecord) => {
    records[index] = record;
    done++;
    // Items end in any order; a file of them is easier to compare in theirs.
    for (; records[written]; written++) onRecord?.(records[written]!);
    onProgress?.({ done, total: items.length, failed });
  };
  const verify = async (item: BenchItem): Promise<BenchRecord> => {
    const { id, question, reference, answer } = item;
    try {
      const verdict = await verifier.verify({ id, question, reference, answer });
      inRow = 0;
      return recordOf(item, verdict);
    } catch (error) {
      if (!(error instanceof JudgeError)) throw error;
      failed++;
      inRow++;
      if (inRow >= Math.min(maxFailures, items.length)) throw error;
      return failedRecord(item, error.message);
    }
  };
  const lane = async () => {
    while (next < items.length && end === undefined) {
      const index = next++;
      try {
        signal?.throwIfAborted();
        finish(index, await verify(items[index]!));
      } catch (error) {
        end ??= error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, lane));
  if (end !== undefined) throw end;
  return records;
}
