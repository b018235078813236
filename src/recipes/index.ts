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
  grpo: {
    summary: 'reinforcement learning of a chat model by verified answers: GRPO, Dr. GRPO, RLOO, REINFORCE++',
    load: async () => (await import('./grpo.js')).grpo,
  },
  tango: {
    summary:
      'RL Tango on last-letter concatenation: a generator and its verifier learn together, beside GRPO',
    load: async () => (await import('./tango.js')).tango,
  },
  rise: {
    summary:
      'RISE: a policy solves problems and verifies its own solutions in one batch, beside RL on solutions alone',
    load: async () => (await import('./rise.js')).rise,
  },
  acereason: {
    summary: 'AceReason: strictly on-policy GRPO through a curriculum, mathematics first and then code',
    load: async () => (await import('./acereason.js')).aceReason,
  },
  'claims/flip-flop': {
    summary: 'PaTH, Table 1: flip-flop language modelling by RoPE, FoX, stick-breaking and PaTH attention',
    load: async () => (await import('./claims/synthetic.js')).flipFlopClaim,
  },
  'claims/cups': {
    summary: 'where the ball is after n swaps of five cups: one layer of PaTH against RoPE',
    load: async () => (await import('./claims/synthetic.js')).cupsClaim,
  },
  'claims/recall': {
    summary: 'PaTH, figure 2 (top): recall of the value N occurrences ago, N = 1 to 4',
    load: async () => (await import('./claims/synthetic.js')).recallClaim,
  },
  'claims/a5': {
    summary: 'PaTH, figure 2 (bottom): the word problem of A5 by depth',
    load: async () => (await import('./claims/synthetic.js')).a5Claim,
  },
  'claims/polar': {
    summary:
      'Polar Express, figures 4 and 5: error after k matrix products, for condition numbers and for gradients of a training',
    load: async () => (await import('./claims/polar.js')).polarClaim,
  },
  'claims/length': {
    summary: 'PaTH, figure 3: language models trained on rows of 256 tokens read rows of up to 4,096',
    load: async () => (await import('./claims/length.js')).lengthClaim,
  },
  'claims/muon': {
    summary:
      'Polar Express, figures 6 and 7: Muon with three orthogonalisations against AdamW on a small GPT, each at its best rate',
    load: async () => (await import('./claims/muon.js')).muonClaim,
  },
  'claims/rl': {
    summary:
      'reinforcement learning: Tango, its verifier, one policy fixed, RISE, AceReason, misleading verifiers',
    load: async () => (await import('./claims/rl.js')).rlClaim,
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
