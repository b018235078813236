/** How near decimals must be. */
export type Tolerance =
  /** Only equal values. */
  | 'exact'
  /** Difference below 10^-digits, and below a twentieth of the value. */
  | { digits: number }
  /** |a − b| ≤ relative · |reference|. */
  | { relative: number }
  /** Equal to so many significant digits. */
  | { significant: number }
  /** The default, `{ rounded: 3 }`: one is the other rounded to the places written, with at least so many significant digits. */
  | { rounded: number };

/** Toggles of the comparison. */
export interface MathOptions {
  /**
   * Applies where a side is written as a decimal; two fractions or whole numbers are compared exactly. Default
   * `{ rounded: 3 }`, under which agreement to six significant digits counts, too, whatever was written.
   */
  tolerance?: Tolerance;
  /** 50 % against 0.5 (`scale`), against 50 (`number`), or both (`either`, the default). */
  percent?: 'scale' | 'number' | 'either';
  /** `check` (default): where both sides name units, they must agree, and 1 km is 1000 m; `drop` ignores units. */
  units?: 'drop' | 'check';
  /** Default `auto`: sets and lists in any order, tuples in order. */
  order?: 'auto' | 'ordered' | 'unordered';
  /** Default true: a reference set or interval takes an answer that is an inequality. The other way round is always taken. */
  setFromRelation?: boolean;
  /** Default true: x is not y. With false, answers that differ only by the names of their symbols are equal. */
  strictSymbols?: boolean;
  /** Default false. With true, 2/4 is no answer where the reference is 1/2. */
  requireReduced?: boolean;
}

export const withDefaults = (options: MathOptions = {}): Required<MathOptions> => ({
  tolerance: options.tolerance ?? { rounded: 3 },
  percent: options.percent ?? 'either',
  units: options.units ?? 'check',
  order: options.order ?? 'auto',
  setFromRelation: options.setFromRelation ?? true,
  strictSymbols: options.strictSymbols ?? true,
  requireReduced: options.requireReduced ?? false,
});
