import { useLocation } from 'react-router';

/** The page of the address that every environment has: `features`, `approvals`, `activity` or `guards`. */
export function usePageName(): string {
  return useLocation().pathname.split('/')[4] ?? 'features';
}
