/** Pure passes over the text of an answer, each linear, applied in the order of `passes`. */

// The position in one string is the position in the other.
const superscripts = '⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ';
const superscriptOf = '0123456789+-=()ni';
const subscripts = '₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎';
const subscriptOf = '0123456789+-=()';

/** A table that is written as a row of keys and values. */
const pairsOf = (text: string): Readonly<Record<string, string>> => {
  const words = text.trim().split(/\s+/);
  return Object.fromEntries(words.flatMap((word, i) => (i % 2 === 0 ? [[word, words[i + 1]!]] : [])));
};

/** Fractions that are one character; after a digit they make a mixed number. */
const vulgar = pairsOf(`
  ½ 1/2  ⅓ 1/3  ⅔ 2/3  ¼ 1/4  ¾ 3/4  ⅕ 1/5  ⅖ 2/5  ⅗ 3/5  ⅘ 4/5  ⅙ 1/6  ⅚ 5/6  ⅛ 1/8  ⅜ 3/8  ⅝ 5/8  ⅞ 7/8
  ⅐ 1/7  ⅑ 1/9  ⅒ 1/10
`);

/** Signs that people type for what LaTeX spells out. Values end with a space where a letter may follow. */
const signs = new Map(
  Object.entries(
    pairsOf(String.raw`
  − -  – -  — -  ‐ -  ‑ -  × \times  ⋅ \cdot  · \cdot  ∙ \cdot  • \cdot  ÷ \div  ∕ /  ⁄ /  ± \pm  ∓ \mp
  ≤ \le  ⩽ \le  ≦ \le  ≥ \ge  ⩾ \ge  ≧ \ge  ≠ \ne  ≈ \approx  ≡ \equiv  ∈ \in  ∪ \cup  ∩ \cap  ∖ \setminus
  ∅ \emptyset  ∞ \infty  π \pi  𝜋 \pi  √ \sqrt  ∛ \sqrt[3]  ° ^\circ  ∀ \forall  → \to  ⇒ \Rightarrow
  α \alpha  β \beta  γ \gamma  θ \theta  λ \lambda  μ \mu  φ \phi  ω \omega  σ \sigma  Δ \Delta
  ℝ \mathbb{R}  ℤ \mathbb{Z}  ℕ \mathbb{N}  ℚ \mathbb{Q}  ℂ \mathbb{C}  ′ '  ’ '  ⟨ \langle  ⟩ \rangle
  ⌊ \lfloor  ⌋ \rfloor  ⌈ \lceil  ⌉ \rceil  ∧ \land  ∨ \lor  ： :  ， ,
`),
  ).map(([sign, command]) => [sign, /\\[a-z]+$/i.test(command) ? `${command} ` : command] as const),
);
const signPattern = new RegExp(`[${[...signs.keys()].join('').replace(/-/g, '\\-')}]`, 'gu');

/** What an escape sequence of JSON or Python made of a command's first letter. */
const unescapes: Record<string, string> = { '\f': '\\f', '\t': '\\t', '\b': '\\b', '\r': '\\r', '\v': '\\v' };

const passes: ((text: string) => string)[] = [
  // "\frac" that went through a JSON or Python string: a control character and "rac".
  (text) =>
    text.replace(
      /[\f\t\b\r\v](?=(?:rac|ext|imes|heta|an\b|au\b|eta|inom|ight|ho\b|egin|ar\b|fs))/g,
      (found) => unescapes[found]!,
    ),
  // "\\frac", escaped once more; "\\\frac" is a line break and a fraction.
  (text) =>
    text.replace(
      /(?<!\\)\\\\(?=(?:[dtc]?frac|sqrt|left|right|text|math|pi|cdot|times|boxed|begin|end|infty|cup|in|pm|log|ln|sin|cos|tan|circ|alpha|beta|theta|leq?|geq?|neq?)(?![a-z]))/g,
      '\\',
    ),
  // HTML, as it comes from scraped answers: first what means something, then entities, then all other tags and the end-of-text tokens
  // of language models.
  (text) =>
    text
      .replace(/<sup>/gi, '^{')
      .replace(/<sub>/gi, '_{')
      .replace(/<\/su[pb]>/gi, '}'),
  (text) =>
    text
      .replace(/&lt;/g, '<')
      .replace(/&gt;/g, '>')
      .replace(/&amp;/g, '&')
      .replace(/&nbsp;/g, ' '),
  (text) => text.replace(/<\/?[a-z][a-z0-9]{0,10}\s?\/?>/gi, ' ').replace(/<\|[a-z_]{1,20}\|>[\s\S]*$/, ''),
  // Before NFKC, which would make x² into x2.
  (text) =>
    text.replace(
      new RegExp(`[${superscripts}]+`, 'g'),
      (run) => `^{${[...run].map((c) => superscriptOf[superscripts.indexOf(c)]).join('')}}`,
    ),
  (text) =>
    text.replace(
      new RegExp(`[${subscripts}]+`, 'g'),
      (run) => `_{${[...run].map((c) => subscriptOf[subscripts.indexOf(c)]).join('')}}`,
    ),
  (text) =>
    text.replace(/(\d?)([½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞⅐⅑⅒])/g, (_, digit: string, sign: string) =>
      digit === '' ? `(${vulgar[sign]})` : `${digit} ${vulgar[sign]}`,
    ),
  // Signs before and after NFKC, which makes new ones: π out of the letters of mathematical alphabets.
  (text) => text.replace(signPattern, (sign) => signs.get(sign)!),
  (text) => text.normalize('NFKC').replace(/[\u200b-\u200f\u2060\ufeff]/g, ''),
  (text) => text.replace(signPattern, (sign) => signs.get(sign)!),
  // Thousands: "11,\!111", "1{,}234", "1\,234".
  (text) =>
    text
      .replace(/(?<=\d)(?:\{,\}|,\\!)\s?(?=\d{3}(?!\d))/g, '')
      .replace(/(?<=\d)(?:\\[,;: ]|~)(?=\d{3}(?!\d))/g, ''),
  // Delimiters of formulas. Dollars that are money are put aside meanwhile, as a character that no text has.
  (text) =>
    text
      .replace(/\\\$/g, '\ue000')
      .replace(/\$(?=\s?\d[^$]{0,40}$)/, '\ue000')
      .replace(/\\[()]|\\\[(?!\d*\.?\d*(?:pt|em|ex|mm|cm)\])|(?<!\\)\\\]|\$+/g, ' ')
      .replace(/\ue000/g, '\\$ '),
  // In systems, marks of alignment part nothing.
  (text) =>
    /\\begin\{(?:aligned|align|cases|split|gathered|eqnarray)/.test(text) &&
    !/\\begin\{(?:[a-zA-Z]?matrix|array)/.test(text)
      ? text.replace(/(?<!\\)&/g, ' ')
      : text.replace(/&\s?(?==|<|>|\\[lg]e)|(?<=[=<>])\s?&/g, ' '),
  // A brace that only \right. closes.
  (text) => text.replace(/\\left\s*\\\{(?=\s*\\begin)/g, ' '),
  // Line breaks with an extra distance: \\[2pt].
  (text) => text.replace(/\\\\\[[\d.]{1,8}(?:pt|em|ex|mm|cm)\]/g, '\\\\'),
  (text) =>
    text
      .replace(/\\(?:left|right)\s*\.(?=\s|$|\\)/g, ' ')
      .replace(/\\(?:left|right|middle)(?![a-z])|\\[bB]igg?[lrm]?(?![a-z])/g, ''),
  (text) =>
    text
      .replace(
        /(?<!\\)\\(?:displaystyle|textstyle|limits|nolimits|quad|qquad|hfill|noindent|bf|rm|it|tt|!|;|:|,|>|\s)(?![a-z])/g,
        ' ',
      )
      .replace(/(?<!\\)\\(?=\d)/g, ' ')
      .replace(/\\(?:quad|qquad)/g, ' ')
      .replace(/~/g, ' '),
  // Emphasis of markdown around an answer; between operands two stars are a power.
  (text) =>
    text
      .replace(/^[\s*_`"'“]{1,9}(?=[^\s*_`"'“])/, '')
      .replace(/(?<=[^\s*_`"'”])[\s*_`"'”]{1,9}$/, (end) => (/^'/.test(end) ? "'" : '')),
  (text) => text.replace(/(?<=[\w)}])\*\*(?=[\w({-])/g, '^').replace(/\*\*/g, ' '),
];

/** The text of an answer in one way of writing, ready for the tokenizer. */
export function normalize(text: string): string {
  let result = text;
  for (const pass of passes) result = pass(result);
  // The full stop of the sentence that the answer ended.
  return result
    .trim()
    .replace(/(?:[\s.;,:]|\\\\)+$/, '')
    .trim();
}
