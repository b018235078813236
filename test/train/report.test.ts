import { describe, expect, it } from 'vitest';
import '../../src/index.js';
import { rangeOf, ticks, tickText } from '../../src/train/curve.js';
import {
  drawCurve,
  duration,
  lineChart,
  measurePeak,
  Progress,
  type RunEvent,
  Smoothed,
} from '../../src/train/index.js';
import { chartsOf, reportText } from '../../src/train/report.js';

describe('ticks', () => {
  it.each([
    [0, 10, 5, [0, 2, 4, 6, 8, 10]],
    [0.13, 0.58, 5, [0.2, 0.3, 0.4, 0.5]],
    [-3, 4, 4, [-2, 0, 2, 4]],
    [1.49, 3.21, 6, [1.5, 2, 2.5, 3]],
    [0, 2000, 8, [0, 500, 1000, 1500, 2000]],
    [5, 5, 3, [5]],
  ] as const)('of %f to %f, about %i', (low, high, count, expected) => {
    expect(ticks(low, high, count)).toEqual(expected);
  });

  it('are written short', () => {
    expect([0, 0.5, 12, 2500, 12_000, 250_000, 3_500_000, 2e9, 3e-4, -0.25].map(tickText)).toEqual([
      '0',
      '0.5',
      '12',
      '2500',
      '12k',
      '250k',
      '3.5M',
      '2G',
      '3e-4',
      '-0.25',
    ]);
  });

  it('span what is finite', () => {
    expect(rangeOf([3, Number.NaN, -1, Number.POSITIVE_INFINITY])).toEqual([-1, 3]);
    expect(rangeOf([])).toEqual([0, 1]);
    expect(rangeOf([2])).toEqual([1.8, 2.2]);
  });
});

describe('a curve in the terminal', () => {
  it('is drawn in braille', () => {
    expect(drawCurve([0, 1, 2, 3], [3, 1, 2, 0], { width: 8, height: 2 })).toBe(
      // From (0, 0) to (5, 5), (10, 2) and (15, 7) in dots, two by four to a character.
      ['3 ┤⠑⢄⠀⠀⣀⢄', '0 ┤⠀⠀⠑⠉⠀⠀⠑⢄', '  └────────', '   0      3'].join('\n'),
    );
  });

  it('leaves gaps where values are not finite, and survives one point and none', () => {
    const gap = drawCurve([0, 1, 2], [1, Number.NaN, 1], { width: 4, height: 1 });
    expect(gap.split('\n')[0]).toMatch(/^1\.1 ┤[⠀-⣿]⠀⠀[⠀-⣿]$/);
    expect(drawCurve([5], [1], { width: 4, height: 1 }).split('\n').length).toBe(3);
    expect(drawCurve([], [], { width: 4, height: 1 }).split('\n').length).toBe(3);
  });
});

describe('a chart', () => {
  const svg = lineChart({
    title: 'Loss <of> "R&D"',
    xLabel: 'step',
    yLabel: 'nats',
    lines: [
      { name: 'training', steps: [0, 50, 100], values: [3, 2, 1], isFaint: true },
      { name: 'training', steps: [0, 50, 100], values: [3, 2.5, 2] },
      { name: 'evaluation', steps: [0, 100], values: [3, Number.NaN], hasDots: true },
    ],
  });

  it('is well-formed XML with its text escaped', () => {
    const open: string[] = [];
    for (const [, close, name, self] of svg.matchAll(/<(\/?)([a-z]+)[^<>]*?(\/?)>/g)) {
      if (close) expect(open.pop()).toBe(name);
      else if (!self) open.push(name!);
    }
    expect(open).toEqual([]);
    expect(svg).toContain('Loss &lt;of&gt; &quot;R&amp;D&quot;');
    expect(svg).toContain('xmlns="http://www.w3.org/2000/svg"');
  });

  it('puts values where the axes say', () => {
    const lines = [...svg.matchAll(/<polyline[^>]*points="([^"]*)"/g)].map(([, points]) => points);
    // The plot is 640 wide from 64 and 272 high from 40; 4 % of the range lie above and below the values.
    expect(lines[0]).toBe('64,50.1 384,176 704,301.9');
    expect(lines[2]).toBe('64,50.1');
    expect([...svg.matchAll(/<circle/g)].length).toBe(1);
  });

  it('is legible on white and on black: no colour is near either', () => {
    const luminance = (hex: string) => {
      const [r, g, b] = [1, 3, 5].map((i) => {
        const c = Number.parseInt(hex.slice(i, i + 2), 16) / 255;
        return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
      }) as [number, number, number];
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const colours = new Set(svg.match(/#[0-9a-f]{6}/g));
    expect(colours.size).toBe(3);
    for (const colour of colours) {
      const l = luminance(colour);
      expect(1.05 / (l + 0.05), colour).toBeGreaterThan(3);
      expect((l + 0.05) / 0.05, colour).toBeGreaterThan(3);
    }
  });
});

const events: RunEvent[] = [
  { time: 0, step: 0, kind: 'start', microBatches: 2, parameters: 1234, steps: 2, flopsPerStep: 10 },
  { time: 0, step: 1, kind: 'train', loss: 3, lr: 0.1, gradNorm: 2, ms: 500, rate: 100 },
  { time: 0, step: 2, kind: 'train', loss: 2, lr: 0.05, gradNorm: 1, ms: 500, rate: 100 },
  { time: 0, step: 2, kind: 'evaluate', metrics: { loss: 2.5, accuracy: 0.25 }, isBest: true, ms: 1 },
  { time: 0, step: 2, kind: 'sample', value: 'some text' },
  { time: 0, step: 2, kind: 'end', reason: 'finished', seconds: 1 },
];

describe('a report', () => {
  it('has results, curves, evaluations, samples and config', () => {
    const charts = [...chartsOf(events).keys()];
    expect(charts).toEqual(['loss.svg', 'learning-rate.svg', 'gradient.svg', 'throughput.svg']);
    const run = {
      name: 'my-run',
      directory: '/runs/my-run',
      config: { lr: 0.1 },
      step: 2,
      steps: 2,
      parameters: 1234,
      status: 'finished' as const,
      loss: 2.5,
      metrics: { loss: 2.5, accuracy: 0.25 },
      best: { step: 2, value: 2.5 },
      seconds: 1,
      checkpoints: [1, 2],
      startedAt: 0,
      updatedAt: 0,
      badLines: 0,
      events,
    };
    expect(reportText(run, charts)).toMatchInlineSnapshot(`
      "# my-run

      |  |  |
      | --- | --- |
      | status | finished |
      | steps | 2 of 2 |
      | time of the updates | 1 s |
      | parameters | 1,234 |
      | training loss, mean of the last steps | 2.5 |
      | last evaluation: loss | 2.5 |
      | last evaluation: accuracy | 0.25 |
      | best evaluation | 2.5 at step 2 |
      | checkpoints | step-1, step-2 |

      ## Curves

      ![loss](figures/loss.svg)

      ![learning-rate](figures/learning-rate.svg)

      ![gradient](figures/gradient.svg)

      ![throughput](figures/throughput.svg)

      ## Evaluations

      | step | loss | accuracy |  |
      | --- | --- | --- | --- |
      | 2 | 2.5 | 0.25 | best so far |

      ## Samples

      Step 2:

      \`\`\`
      some text
      \`\`\`

      ## Config

      \`\`\`json
      {
        "lr": 0.1
      }
      \`\`\`
      "
    `);
  });
});

describe('progress', () => {
  const run = { steps: 2, unit: 'tokens', perStep: 50, flopsPerStep: 10, peakFlops: undefined };
  function show(
    options: { isTTY: boolean; columns?: number },
    changes: Partial<Record<'peakFlops', number>> = {},
  ) {
    let text = '';
    const write = (piece: string) => {
      text += piece;
    };
    const stream = { ...options, write };
    const progress = new Progress({ stream }, { ...run, ...changes });
    for (const event of events) progress.see(event);
    progress.end();
    return text;
  }

  it('is some plain lines where the output is no terminal', () => {
    expect(show({ isTTY: false })).toBe(
      [
        'step 1/2  loss 3.000  100 tokens/s  lr 0.1  1 s left',
        'step 2/2  loss 2.495  100 tokens/s  lr 0.05  0 s left',
        'step 2  evaluation  loss 2.5  accuracy 0.25  (best)',
        'step 2  sample',
        'some text',
        '',
      ].join('\n'),
    );
  });

  it('is one line that renews itself on a terminal, never longer than it', () => {
    const text = show({ isTTY: true, columns: 40 });
    expect(text.startsWith('\r\x1b[2Kstep 1/2  loss 3.000  100 tokens/s  lr ')).toBe(true);
    const pieces = text.split('\x1b[2K').slice(1);
    expect(pieces.length).toBe(2);
    for (const piece of pieces) expect(piece.split(/[\r\n]/)[0]!.length).toBe(39);
  });

  it('shows the share of the peak where one is known', () => {
    expect(show({ isTTY: false }, { peakFlops: 40 })).toContain('100 tokens/s  MFU 50 %  lr 0.1');
  });

  it('measures the peak once a process, in less than a third of a second of computing', async () => {
    const peak = await measurePeak();
    // Between a thousandth of a small core and a large server.
    expect(peak).toBeGreaterThan(1e8);
    expect(peak).toBeLessThan(1e14);
    const start = performance.now();
    expect(await measurePeak()).toBe(peak);
    expect(performance.now() - start).toBeLessThan(20);
  });

  it('is not pulled towards zero at first', () => {
    const mean = new Smoothed(0.9);
    expect(mean.value).toBeNaN();
    mean.add(4);
    expect(mean.value).toBeCloseTo(4, 12);
    mean.add(2);
    // (0.9·0.1·4 + 0.1·2) / (1 - 0.9²)
    expect(mean.value).toBeCloseTo(0.56 / 0.19, 12);
    const copy = new Smoothed(0.9);
    copy.restore(mean.state());
    expect(copy.value).toBe(mean.value);
  });

  it('writes times as people do', () => {
    expect([0.4, 59, 61, 3600, 7380].map(duration)).toEqual([
      '0 s',
      '59 s',
      '1 min 01 s',
      '1 h 00 min',
      '2 h 03 min',
    ]);
  });
});
