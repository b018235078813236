import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/support/property-seed.ts'],
    // Two cores, and every file starts a runtime of its own with all threads.
    maxWorkers: 2,
    testTimeout: 60_000,
    reporters: process.env.CI ? ['default', './test/support/summary-reporter.ts'] : ['default'],
  },
});
