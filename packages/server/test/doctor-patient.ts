import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { install } from '../src/database/install.js';
import { examine, type ExamineOptions } from '../src/doctor/examine.js';
import type { Finding } from '../src/doctor/finding.js';
import { withClient, type TestCluster, type TestDatabase } from './database.js';

const execute = promisify(execFile);
const programs = fileURLToPath(new URL('../../../node_modules/.bin', import.meta.url));

/** A database in perfect health, with a role for the server, for tests that make it ill. */
export interface Patient {
  readonly database: TestDatabase;
  readonly role: string;
  /** The connection string of the role. */
  readonly url: string;
  /** Runs statements as superuser, each by itself. */
  readonly run: (statements: string) => Promise<void>;
  /** What doctor finds, seen as the role. */
  readonly findings: (options?: ExamineOptions, url?: string) => Promise<readonly Finding[]>;
  /** The findings with this id, of which none is to be ok. */
  readonly complaints: (id: string, options?: ExamineOptions) => Promise<readonly Finding[]>;
  /** Does what the finding says, as superuser: runs its statements, or its command in a shell. */
  readonly follow: (finding: Finding) => Promise<void>;
  drop(): Promise<void>;
}

/** Makes one in a cluster of the test's own: settings of the run's cluster are not what doctor likes. */
export async function createPatient(cluster: TestCluster): Promise<Patient> {
  const database = await cluster.createDatabase({ schema: 'tables' });
  const role = `reader_${randomBytes(4).toString('hex')}`;
  await withClient(database.url, async (client) => {
    await install(client, { role });
    await client.query(`ALTER ROLE ${role} PASSWORD 'hunter2'`);
  });
  const url = new URL(database.url);
  url.username = role;
  url.password = 'hunter2';
  const patient: Patient = {
    database,
    role,
    url: url.toString(),
    async run(statements) {
      // As psql does: some statements refuse to share a transaction.
      for (const statement of statements.split(/;(?=\s|$)/)) {
        if (statement.replace(/--.*$/gm, '').trim() !== '') await database.pool.query(statement);
      }
    },
    async findings(options = {}, at = patient.url) {
      return (await examine(at, { listen: false, ...options })).findings;
    },
    async complaints(id, options) {
      const findings = await patient.findings(options);
      return findings.filter((finding) => finding.id === id && finding.level !== 'ok');
    },
    async follow({ mend }) {
      if (mend?.kind === 'sql') {
        await patient.run(mend.text);
      } else if (mend?.kind === 'command') {
        await execute('sh', ['-c', mend.text], {
          env: {
            PATH: [programs, path.dirname(process.execPath), process.env['PATH']].join(':'),
            DATABASE_URL: database.url,
          },
        });
      } else {
        throw new Error(`nothing to follow: ${mend?.text ?? 'no advice'}`);
      }
    },
    async drop() {
      await database.pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
      await database.drop();
    },
  };
  return patient;
}
