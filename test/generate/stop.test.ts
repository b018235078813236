import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pieceLength, roundUp } from '../../src/generate/shapes.js';
import { StopMatcher } from '../../src/generate/stop.js';

describe('StopMatcher', () => {
  it('lets through what a search in the whole text lets through, however it is cut', () => {
    const letters = (max: number) =>
      fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: max });
    fc.assert(
      fc.property(
        fc.array(letters(4), { maxLength: 12 }),
        fc.array(letters(4), { maxLength: 3 }),
        (cut, stopList) => {
          const pieces = cut.map((one) => one.join(''));
          const stops = stopList.map((one) => one.join(''));
          const matcher = new StopMatcher(stops);
          let shown = '';
          let stopped = false;
          let pushed = '';
          for (const piece of pieces) {
            pushed += piece;
            const result = matcher.push(piece);
            shown += result.text;
            stopped = result.stopped;
            if (stopped) break;
            // Nothing is held that cannot become a stop string.
            const held = pushed.slice(shown.length);
            expect(held === '' || stops.some((stop) => stop.startsWith(held))).toBe(true);
          }
          if (!stopped) shown += matcher.end();
          const places = stops.map((stop) => pushed.indexOf(stop)).filter((at) => at >= 0);
          expect(shown).toBe(places.length > 0 ? pushed.slice(0, Math.min(...places)) : pushed);
          expect(stopped).toBe(places.length > 0);
        },
      ),
    );
  });
});

describe('shapes', () => {
  it('round to few sizes', () => {
    expect([1, 2, 3, 5, 9].map((n) => roundUp(n, 6))).toEqual([1, 2, 4, 6, 6]);
    const lengths = new Set(Array.from({ length: 2000 }, (_, i) => pieceLength(i + 1, 512)));
    expect([...lengths].sort((a, b) => a - b)).toEqual([16, 32, 64, 128, 256, 512]);
  });

  it('read a prompt with little padding in few pieces', () => {
    for (let prompt = 1; prompt < 3000; prompt++) {
      let pieces = 0;
      let computed = 0;
      for (let left = prompt; left > 0; pieces++) {
        const length = pieceLength(left, 256);
        computed += length;
        left -= Math.min(left, length);
      }
      expect(pieces).toBeLessThanOrEqual(Math.ceil(prompt / 256) + 5);
      expect(computed - prompt).toBeLessThanOrEqual(Math.max(31, prompt / 3));
    }
  });
});
