import { MantineProvider } from '@mantine/core';
import { type Query, QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { lazy, useEffect, useState } from 'react';
import { BrowserRouter } from 'react-router';
import { LiveClient } from '../api/live.js';
import { forgetUser } from '../api/queries.js';
import { isTemporary, retryDelayMs } from '../api/retry.js';
import { type AppServices, AppServicesContext, useSession } from '../sign-in/app-services.js';
import { I18nProvider } from '../i18n/i18n.js';
import { LazyPage } from './full-page.js';
import { lazyPart } from './lazy-part.js';
import { lazyRoutes } from './lazy-routes.js';
import { LeaveGuardProvider } from './leave-guard.js';
import { NotificationsProvider } from './notifications.js';
import { Pages } from './pages.js';
import { theme } from './theme.js';

const SignInPage = lazy(lazyRoutes.signInPage);
const ExpiredDialog = lazyPart(lazyRoutes.expiredDialog);

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
export function App(services: AppServices) {
  const [queries] = useState(createQueryClient);
  return (
    <AppServicesContext value={services}>
      <I18nProvider>
        <MantineProvider theme={theme} defaultColorScheme="auto">
          <QueryClientProvider client={queries}>
            <BrowserRouter basename={services.basePath}>
              <NotificationsProvider>
                <LeaveGuardProvider>
                  <Root queries={queries} />
                </LeaveGuardProvider>
              </NotificationsProvider>
            </BrowserRouter>
          </QueryClientProvider>
        </MantineProvider>
      </I18nProvider>
    </AppServicesContext>
  );
}

/** The pages, or the sign-in page, which keeps the address. */
function Root({ queries }: { readonly queries: QueryClient }) {
  const session = useSession();
  const userId = session.state === 'out' ? null : session.userId;
  const token = session.state === 'in' ? session.token : null;
  useEffect(() => () => forgetUser(queries), [queries, userId]);
  useEffect(() => {
    // Repeats queries that failed because of an expired token.
    const predicate = ({ state }: Query): boolean => state.status === 'error';
    if (token !== null) void queries.refetchQueries({ type: 'active', predicate });
  }, [queries, token]);
  return (
    <LazyPage resetKey={userId ?? ''}>
      {userId === null ? (
        <SignInPage />
      ) : (
        <LiveClient key={userId} userId={userId}>
          <Pages />
          {session.state === 'expired' && <ExpiredDialog username={session.username} />}
        </LiveClient>
      )}
    </LazyPage>
  );
}
