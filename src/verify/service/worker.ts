/**
 * A worker thread of `VerifierPool`: takes items one at a time, says when it begins with one, and answers with the
 * verdict. Nothing here can hang for long, since rules count their work; the pool ends the thread if it does.
 */
import { parentPort } from 'node:worker_threads';
import { type AnswerOptions, answerVerifier } from '../answer.js';
import type { RuleVerifier } from '../verdict.js';
import type { AnswerItem } from './rows.js';

/** Verifiers by their options as text: rows of a file mostly share theirs. */
const verifiers = new Map<string, RuleVerifier>();

function verifierOf(options: AnswerOptions = {}): RuleVerifier {
  const key = JSON.stringify(options);
  let found = verifiers.get(key);
  if (!found) {
    // A caller whose every row has options of its own must not fill the memory.
    if (verifiers.size > 1000) verifiers.clear();
    found = answerVerifier(options);
    verifiers.set(key, found);
  }
  return found;
}

parentPort?.on('message', (item: AnswerItem) => {
  parentPort!.postMessage('begun');
  parentPort!.postMessage(verifierOf(item?.options).verify(item));
});
parentPort?.postMessage('ready');
