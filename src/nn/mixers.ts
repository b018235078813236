import { Attention } from './attention.js';
import type { MixerOptions, SequenceMixer } from './mixer.js';
import { PathAttention } from './path.js';
import { StickBreaking } from './stick-breaking.js';

/**
 * Sequence mixers by the word that a model's config names them with; a new kind is a file and an entry here.
 *
 * | word | positions |
 * | --- | --- |
 * | softmax | as the config's `positions` says: rotary, learned or none |
 * | alibi | a penalty that grows with distance (Press et al. 2022) |
 * | fox | forget gates that depend on the data (Lin et al. 2025) |
 * | path | reflections that depend on the data (Yang et al. 2025) |
 * | path-fox | both |
 * | stick-breaking | the nearest key that wants it comes first (Tan et al. 2024) |
 */
export const mixers = {
  softmax: (options: MixerOptions): SequenceMixer => new Attention(options),
  alibi: (options: MixerOptions): SequenceMixer => new Attention(options, 'alibi'),
  fox: (options: MixerOptions): SequenceMixer => new Attention(options, 'forget'),
  path: (options: MixerOptions): SequenceMixer => new PathAttention(options),
  'path-fox': (options: MixerOptions): SequenceMixer => new PathAttention(options, { forget: true }),
  'stick-breaking': (options: MixerOptions): SequenceMixer => new StickBreaking(options),
} as const;

/** A word for a mixer. */
export type MixerKind = keyof typeof mixers;
