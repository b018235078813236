import { AnnealError } from '../core/errors.js';
import type { Recipe } from './recipe.js';
import { nearest } from './settings.js';

/** A recipe that is loaded when it is asked for: the list itself costs nothing. */
export interface Listing {
  summary: string;
  load(): Promise<Recipe<never, never>>;
}

const listings: Readonly<Record<string, Listing>> = {};

export { listings as recipes };

/** @throws AnnealError with the nearest names if there is no such recipe. */
export async function loadRecipe(name: string): Promise<Recipe<unknown, unknown>> {
  const listing = Object.hasOwn(listings, name) ? listings[name] : undefined;
  if (!listing) {
    const near = nearest(name, Object.keys(listings));
    const remedy =
      near.length > 0
        ? `did you mean ${near.join(' or ')}?`
        : `there are ${Object.keys(listings).join(', ')}`;
    throw new AnnealError(`there is no recipe "${name}"; ${remedy}`);
  }
  return (await listing.load()) as unknown as Recipe<unknown, unknown>;
}
