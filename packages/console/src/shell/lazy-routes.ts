/** The pages, dialogs, menus and charts that are not in the first load: loaders for React's `lazy`. */
export const lazyRoutes = {
  featurePage: async () => await import('../feature/feature-page.js'),
  approvalsPage: async () => await import('../approvals/approvals-page.js'),
  requestPage: async () => await import('../approvals/request-page.js'),
  guardsPage: async () => await import('../guards/guards-page.js'),
  activityPage: async () => await import('../activity/activity-page.js'),
  activityChart: async () => await import('../activity/activity-chart.js'),
  shortcutsHelp: async () => await import('./shortcuts-help.js'),
  palette: async () => await import('./palette.js'),
  signInPage: async () => await import('../sign-in/sign-in-page.js'),
  expiredDialog: async () => ({ default: (await import('../sign-in/sign-in-page.js')).ExpiredDialog }),
  userMenu: async () => await import('./user-menu.js'),
  concernsPopup: async () => await import('../approvals/concerns-popup.js'),
  filterMenu: async () => ({ default: (await import('../features/list-menu-items.js')).FilterMenu }),
  columnsMenu: async () => ({ default: (await import('../features/list-menu-items.js')).ColumnsMenu }),
  scopeMenu: async () => await import('./scope-menu.js'),
  modal: async () => await import('./modal.js'),
  formDialog: async () => ({ default: (await import('./modal.js')).FormModal }),
  requestDialog: async () => await import('../features/request-dialog.js'),
  createDialog: async () => await import('../feature/create-dialog.js'),
  deleteDialog: async () => await import('../feature/delete-dialog.js'),
  freshnessDrawer: async () => await import('../freshness/freshness-drawer.js'),
};

/**
 * Loads all of them, one after the other, so that the requests of the page do not queue behind them. Rejects with the
 * first failure: a browser does not retry a failed import before a reload, so the rest is better not tried while the
 * server is away. `signal` stops between two imports.
 */
export async function preloadRoutes(signal: AbortSignal): Promise<void> {
  for (const load of Object.values(lazyRoutes)) {
    if (signal.aborted) return;
    await load();
  }
}
