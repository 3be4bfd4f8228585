// npm run sql -- "SQL": runs a statement in the database of the running demo.
import { reportFailure } from '../packages/server/dist/cli/main.js';
import { runSql } from './demo-sql.js';

await reportFailure(async () => await runSql(process.argv.slice(2), process.env));
