/** `flagcast serve` from its sources, for scripts/dev.js. It also stops when that script was killed. */
import { main } from '../../packages/server/src/cli/main.js';

process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'));
// The server ends although its parent has not.
process.channel?.unref();
await main(['serve', ...process.argv.slice(2)]);
