import { useEffect, useState } from 'react';

/** Returns the focus on unmount to the element that had it on mount. For dialogs that are mounted only while open. */
export function useReturnFocus(): void {
  const [opener] = useState(() => document.activeElement);
  useEffect(
    () => () => {
      // After Mantine's own handling of the focus, which expects dialogs that stay mounted.
      setTimeout(() => {
        if (opener instanceof HTMLElement && opener.isConnected && opener !== document.body) opener.focus();
        else document.getElementById('content')?.focus({ preventScroll: true });
      });
    },
    [opener],
  );
}
