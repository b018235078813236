import { AnnealError } from '../core/errors.js';
import type { Recipe } from './recipe.js';
import { nearest } from './settings.js';

/** A recipe that is loaded when it is asked for: the list itself costs nothing. */
export interface Listing {
  summary: string;
  load(): Promise<Recipe>;
}

const listings: Readonly<Record<string, Listing>> = {
  'moby-dick': {
    summary: 'train a small language model on Moby Dick, in under three minutes on two cores',
    load: async () => (await import('./moby-dick.js')).mobyDick,
  },
  lm: {
    summary: 'train a language model on text files',
    load: async () => (await import('./lm.js')).lm,
  },
  shakespeare: {
    summary: "nanoGPT's example for a processor, on a copy of tiny Shakespeare",
    load: async () => (await import('./shakespeare.js')).shakespeare,
  },
  sft: {
    summary: 'fine-tune a language model on conversations or question-answer pairs',
    load: async () => (await import('./sft.js')).sft,
  },
};

export { listings as recipes };

/** @throws AnnealError with the nearest names if there is no such recipe. */
export async function loadRecipe(name: string): Promise<Recipe> {
  const listing = Object.hasOwn(listings, name) ? listings[name] : undefined;
  if (!listing) {
    const near = nearest(name, Object.keys(listings));
    const remedy =
      near.length > 0
        ? `did you mean ${near.join(' or ')}?`
        : `there are ${Object.keys(listings).join(', ')}`;
    throw new AnnealError(`there is no recipe "${name}"; ${remedy}`);
  }
  return listing.load();
}
