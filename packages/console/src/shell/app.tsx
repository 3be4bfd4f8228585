import { MantineProvider } from '@mantine/core';
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { BrowserRouter } from 'react-router';
import { LiveClient } from '../api/live.js';
import { forgetPerson } from '../api/queries.js';
import { isTemporary, retryDelayMs } from '../api/retry.js';
import { ExpiredDialog } from '../sign-in/expired-dialog.js';
import { type Ground, GroundContext, useSession } from '../sign-in/session-context.js';
import { SignInPage } from '../sign-in/sign-in-page.js';
import { TextsProvider } from '../texts/texts.js';
import { MessagesProvider } from './messages.js';
import { Pages } from './pages.js';
import { theme } from './theme.js';

/** How often a request is repeated before the page shows the error. */
const retriesBeforeError = 2;

function createQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        retry: (failures, error) => failures < retriesBeforeError && isTemporary(error),
        retryDelay: (failures, error) => retryDelayMs(failures + 1, error),
        // A page that shows an error recovers without a reload.
        refetchInterval: ({ state }) =>
          state.error !== null && isTemporary(state.error)
            ? retryDelayMs(state.errorUpdateCount, state.error)
            : false,
      },
    },
  });
}

/** The console. */
export function App(ground: Ground) {
  const [queries] = useState(createQueryClient);
  return (
    <GroundContext value={ground}>
      <TextsProvider>
        <MantineProvider theme={theme} defaultColorScheme="auto">
          <QueryClientProvider client={queries}>
            <BrowserRouter basename={ground.basePath}>
              <MessagesProvider>
                <Entrance queries={queries} />
              </MessagesProvider>
            </BrowserRouter>
          </QueryClientProvider>
        </MantineProvider>
      </TextsProvider>
    </GroundContext>
  );
}

/** The page for whoever is signed in; the sign-in page keeps the address for afterwards. */
function Entrance({ queries }: { readonly queries: QueryClient }) {
  const session = useSession();
  const username = session.state === 'out' ? null : session.username;
  const token = session.state === 'in' ? session.token : null;
  useEffect(() => () => forgetPerson(queries), [queries, username]);
  useEffect(() => {
    // What was refused while the token had expired is asked again.
    if (token !== null) void queries.refetchQueries({ type: 'active', predicate: isFailed });
  }, [queries, token]);
  if (username === null) return <SignInPage />;
  return (
    <LiveClient key={username}>
      <Pages />
      <ExpiredDialog />
    </LiveClient>
  );
}

const isFailed = ({ state }: { readonly state: { readonly status: string } }): boolean =>
  state.status === 'error';
