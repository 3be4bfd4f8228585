import { allowsColors, loadDoctorConfig } from './config/config.js';
import { examine } from '../install/doctor/examine.js';
import { defineCommand } from './command.js';
import { describeDatabase } from './connect.js';
import { doctorReport } from './doctor-report.js';

export const doctorCommand = defineCommand({
  name: 'doctor',
  help: `flagcast doctor --database-url URL [options]

Checks a database for flagcast serve: what events are read from, which guarantee holds, what is missing,
what that means, and the command or the SQL that fixes it. Changes nothing. Use the same URL as
flagcast serve, so that its role and its connection are checked.

  --database-url URL  the database (env DATABASE_URL; no default)
  --json              print everything as JSON (default: a line for each finding)

Environment: FLAGCAST_LISTEN_URL, FLAGCAST_VIEW, FLAGCAST_OVERLAP, FLAGCAST_AUTHORIZE_SQL,
FLAGCAST_DB_CONNECTIONS, FLAGCAST_WORKERS, FLAGCAST_WRITES and FLAGCAST_JWT_USER_CLAIM, as for flagcast serve.

Exits with 1 if there is an error. Warnings and notes do not count.`,
  options: {
    'database-url': { type: 'string' },
    json: { type: 'boolean' },
  },
  run: async (values, environment) => {
    const { databaseUrl, ...attached } = loadDoctorConfig(environment, {
      databaseUrl: values['database-url'],
    });
    const database = describeDatabase(databaseUrl);
    const { role, findings } = await examine(databaseUrl, attached);
    if (values.json === true) {
      console.log(JSON.stringify({ database, role, findings }, null, 2));
    } else {
      const colors = process.stdout.isTTY && allowsColors(environment);
      console.log(doctorReport({ database, role, findings }, { colors }));
    }
    if (findings.some(({ level }) => level === 'error')) process.exitCode = 1;
  },
});
