import type { PathLayout } from '../core/ops/path-layout.js';
import { type Block, lanes, type Slot, type TileAssembler } from './tile-assembler.js';

/** Sizes of a kernel of PaTH attention: [heads, length, d] queries (scaled), keys and directions, values of dv. */
export interface PathCode {
  length: number;
  d: number;
  dv: number;
  /** Positions of a block, 16 to 64; divides the length. */
  block: number;
}

/** Blocks of a head's part of what is handed on. */
export class PathBlocksOf {
  constructor(
    readonly t: TileAssembler,
    readonly code: PathCode,
    readonly layout: PathLayout,
    readonly tensor: Slot,
    readonly head: Slot,
  ) {}

  #at(offset: number, index: Slot, floats: number, ld: number): Block {
    return this.t.block(
      this.tensor,
      [
        [this.head, this.layout.size],
        [index, floats],
      ],
      ld,
      offset,
    );
  }
  edge(level: number, i: Slot): Block {
    const { length, block, d } = this.code;
    return this.#at(this.layout.edges + level * length * d, i, block * d, d);
  }
  other(i: Slot): Block {
    return this.#at(this.layout.others, i, this.code.block * this.code.d, this.code.d);
  }
  transform(level: number, group: Slot): Block {
    const { d } = this.code;
    return this.#at(this.layout.transforms[level]!, group, d * d, d);
  }
  solution(i: Slot): Block {
    const width = this.code.d + this.code.block;
    return this.#at(this.layout.solution, i, this.code.block * width, width);
  }
  crossing(i: Slot): Block {
    return this.#at(this.layout.crossings, i, this.code.block ** 2, this.code.block);
  }
  local(i: Slot): Block {
    return this.#at(this.layout.local, i, this.code.block ** 2, this.code.block);
  }
}

/** Block i of head `head` of a tensor [heads, length, width]. */
export const rowsOf = (
  t: TileAssembler,
  { length, block }: PathCode,
  tensor: Slot,
  head: Slot,
  i: Slot,
  width: number,
): Block =>
  t.block(
    tensor,
    [
      [head, length * width],
      [i, block * width],
    ],
    width,
  );

/** Vectors of a block's row. */
export const vectorsOf = ({ block }: PathCode): number => block / lanes;

/**
 * Runs `left` for the blocks of every left half at a level whose keys are needed above it, and `right` for the blocks of every right
 * half whose queries are. `pair` counts pairs of halves. `isSwapped`: what the blocks need changes sides at the level above.
 */
export function eachCrossing(
  t: TileAssembler,
  { n }: PathLayout,
  level: number,
  backwards: boolean,
  bodies: {
    begin?(side: 'left' | 'right', group: Slot): void;
    block(side: 'left' | 'right', i: Slot, across: Slot, isOdd: boolean): void;
    unneeded?(side: 'left' | 'right', i: Slot, isOdd: boolean): void;
    end?(side: 'left' | 'right', group: Slot): void;
  },
): void {
  const half = 2 ** level;
  const pairs = Math.ceil(n / (2 * half));
  const [pair, i, across, from, to] = [0, 0, 0, 0, 0].map(() => t.slot()) as [Slot, Slot, Slot, Slot, Slot];
  const visit = (side: 'left' | 'right') => {
    const isLeft = side === 'left';
    t.combine(from, 0, [[pair, 2 * half]], isLeft ? 0 : half);
    t.combine(to, from, [], half);
    t.limit(to, n);
    // The half that is crossed: keys go over the right one, queries over the left one.
    t.combine(across, 0, [[pair, 2]], isLeft ? 1 : 0);
    const body = (isOdd: boolean, isNeeded: boolean) => () => {
      if (isNeeded) bodies.begin?.(side, across);
      t.loop(i, from, to, () => {
        if (isNeeded) bodies.block(side, i, across, isOdd);
        else bodies.unneeded?.(side, i, isOdd);
      });
      if (isNeeded) bodies.end?.(side, across);
    };
    const byParity = (isNeeded: boolean) => t.ifBit(pair, 0, body(true, isNeeded), body(false, isNeeded));
    // Keys: something lies to the right of the pair. Queries: something lies to its left.
    if (isLeft) {
      const last = Math.ceil(n / (2 * half)) - 1;
      t.ifBelow(pair, last, () => byParity(true));
      if (bodies.unneeded) t.ifNotBelow(pair, last, () => byParity(false));
    } else {
      t.ifNotBelow(pair, 1, () => byParity(true));
      if (bodies.unneeded) t.ifBelow(pair, 1, () => byParity(false));
    }
  };
  const both = () => {
    visit('left');
    visit('right');
  };
  if (backwards) t.loopDown(pair, pairs, 0, both);
  else t.loop(pair, 0, pairs, both);
}
