// npm run sql -- "SQL": runs a statement in the database of the running demo.
import { reportFailure } from '../packages/server/dist/cli/report.js';
import { runSql } from '../packages/server/dist/cli/sql.js';

await reportFailure(async () => await runSql(process.argv.slice(2), process.env));
