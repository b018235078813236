import { createHash, timingSafeEqual } from 'node:crypto';

const digest = (key: string): Buffer => createHash('sha256').update(key).digest();

/**
 * Whether an `Authorization` header bears one of the keys. Digests of equal length are compared in constant time,
 * and always all of them, so that the time tells nothing about a key.
 */
export function keyChecker(keys: readonly string[]): (header: string | undefined) => boolean {
  const digests = keys.map(digest);
  return (header) => {
    const given = digest(/^Bearer (.+)$/i.exec(header ?? '')?.[1] ?? '');
    let isKnown = false;
    for (const known of digests) isKnown = timingSafeEqual(known, given) || isKnown;
    return isKnown;
  };
}
