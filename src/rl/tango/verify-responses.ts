import type { PhaseContext } from '../phases.js';
import type { Sample } from '../sample.js';
import type { ResolvedTango } from './options.js';
import { promptOf, type Response, samplingOf } from './responses.js';
import { type ParsedVerification, parseVerification } from './verification-format.js';

/** What a verifier wrote about a response, or a function said. */
export interface Verification<P> {
  readonly response: Response<P>;
  readonly parsed: ParsedVerification;
  /** Absent for a scripted verifier. */
  readonly sample?: Sample<Response<P>>;
}

/** Verdicts of a function in the form of what is read. */
function scripted<P>(options: ResolvedTango<P>, response: Response<P>, seed: number): Verification<P> {
  const { problem, solution, isCorrect } = response;
  const { verdicts, final } = options.scripted!(problem, solution, { isCorrect, seed });
  const k = solution.steps.length;
  const isAligned = verdicts?.length === k && k > 0;
  const alignment = isAligned ? 'perfect' : (verdicts?.length ?? 0) < k ? 'missing' : 'extra';
  const parsed = {
    verdicts: isAligned ? verdicts : undefined,
    blocks: verdicts ?? [],
    final,
    alignment,
    format: 1,
  } as const;
  return { response, parsed };
}

/**
 * Verifies responses, all in one rollout.
 * @returns `count` verifications of each response, in the order of responses
 */
export async function verifyResponses<P>(
  options: ResolvedTango<P>,
  context: PhaseContext,
  responses: readonly Response<P>[],
  count: number,
): Promise<Verification<P>[]> {
  if (responses.length === 0) return [];
  if (options.scripted) {
    return responses.flatMap((response, i) =>
      Array.from({ length: count }, (_, j) => scripted(options, response, context.seed('scripted', i, j))),
    );
  }
  const { verifier, prompts, task } = options;
  const tokenizer = verifier.policy.tokenizer!;
  const asked = responses.map((response) => {
    const { problem, sample, solution } = response;
    const text = prompts.verifier(task.question(problem), sample.text, solution.steps.length);
    return promptOf(tokenizer, text, response);
  });
  const sampled = await verifier.policy.rollout(asked, {
    ...samplingOf(verifier),
    samples: count,
    seed: context.seed('verifications'),
    signal: context.signal,
  });
  context.signal.throwIfAborted();
  return sampled.map((sample) => {
    const { solution } = sample.example;
    const { format } = solution;
    const parsed = parseVerification(sample.text, solution.steps.length, { solutionFormat: format });
    return { response: sample.example, parsed, sample };
  });
}
