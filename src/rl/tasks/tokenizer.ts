import { CharacterTokenizer } from '../../data/character-tokenizer.js';
import type { StepTask } from './task.js';

/** Tags and fixed phrases of all formats: one token each, so that a small model spends none on spelling them. */
export const protocolPhrases: readonly string[] = [
  '<think>',
  '</think>',
  '<step>',
  '</step>',
  '<answer>',
  '</answer>',
  '\\boxed{',
  '<step_verification>',
  '</step_verification>',
  '<final_verification>',
  '</final_verification>',
  'CORRECT',
  'INCORRECT',
  '\\boxed{CORRECT}',
  '\\boxed{INCORRECT}',
  '<rate>',
  '\\boxed{1.0}',
  '\\boxed{-0.5}',
  '\\boxed{-1.0}',
];

/**
 * A vocabulary for generated tasks: their characters, the phrases of the formats and of the tasks as single tokens, and
 * an end of text. It is saved with a model as any tokenizer is.
 */
export function protocolTokenizer(
  tasks: readonly Pick<StepTask, 'alphabet' | 'phrases'>[],
): CharacterTokenizer {
  const characters = new Set(['\n', ' ', '}', '-', '.', ...'0123456789']);
  for (const { alphabet } of tasks) for (const character of alphabet) characters.add(character);
  const phrases = new Set([...protocolPhrases, ...tasks.flatMap((task) => task.phrases)]);
  return new CharacterTokenizer([...characters].sort(), {
    phrases: [...phrases],
    endOfText: '<|endoftext|>',
  });
}
