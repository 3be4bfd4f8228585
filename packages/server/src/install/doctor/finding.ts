/** How much a finding matters. `error`: `flagcast serve` does not work or events are lost. `warning`: it works worse than it could. */
export type Level = 'ok' | 'note' | 'warning' | 'error';

/** How to resolve a finding. */
export interface Fix {
  /**
   * - `sql`: statements for the database, run by a role that may
   * - `command`: for a shell in which DATABASE_URL is set
   * - `advice`: nothing that can be run
   */
  readonly kind: 'sql' | 'command' | 'advice';
  readonly text: string;
}

/** The result of one check. The texts are one line each and hold no password. */
export interface Finding {
  /** Stable, e.g. `listen`. Several findings may have the same id. */
  readonly id: string;
  readonly level: Level;
  readonly message: string;
  /** What it means for users of Flagcast; null where nothing is wrong. */
  readonly consequence: string | null;
  readonly fix: Fix | null;
}

export const ok = (id: string, message: string): Finding => ({
  id,
  level: 'ok',
  message,
  consequence: null,
  fix: null,
});

export const sql = (text: string): Fix => ({ kind: 'sql', text });
export const command = (text: string): Fix => ({ kind: 'command', text });
export const advice = (text: string): Fix => ({ kind: 'advice', text });
