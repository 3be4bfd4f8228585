import { useLocation } from 'react-router';

/** `features`, `approvals`, `activity` or `guards`: the page that another environment has, too. */
export function usePageName(): string {
  return useLocation().pathname.split('/')[4] ?? 'features';
}
