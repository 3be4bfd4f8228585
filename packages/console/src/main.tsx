import './shell/mantine-styles.js';
import './shell/colours.css';
import './shell/shell.css';
import './sign-in/sign-in.css';
import './freshness/freshness.css';
import './features/features.css';
import { createRoot } from 'react-dom/client';
import { createApi } from './api/api.js';
import { App } from './shell/app.js';
import { createSession } from './sign-in/session.js';
import { createSessionTabs } from './sign-in/session-tabs.js';
import { dropInvalidLanguages } from './i18n/browser-languages.js';

dropInvalidLanguages();

// This file is one folder below the path of the server, such as `/flagcast/`.
const { url } = import.meta;
const basePath = new URL('..', url).pathname.replace(/\/$/, '');
const session = createSession(sessionStorage, createSessionTabs(basePath, localStorage), basePath);
const api = createApi({
  basePath,
  token: () => {
    const state = session.getState();
    return state.state === 'out' ? null : state.token;
  },
  onTokenRefused: session.refuseToken,
});
const root = document.getElementById('root');
if (root === null) throw new Error('the page has no #root');
// So that a new tab does not show the sign-in page for a moment.
await session.whenRestored;
createRoot(root).render(<App session={session} api={api} basePath={basePath} />);
