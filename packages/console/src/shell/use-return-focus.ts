import { useEffect, useState } from 'react';

/** Gives the focus back to where it was when this was mounted, when it is unmounted: for dialogs that are there only while open. */
export function useReturnFocus(): void {
  const [opener] = useState(() => document.activeElement);
  useEffect(
    () => () => {
      // After the dialog's own care for the focus, which knows only of dialogs that stay.
      setTimeout(() => {
        if (opener instanceof HTMLElement && opener.isConnected && opener !== document.body) opener.focus();
        else document.getElementById('content')?.focus({ preventScroll: true });
      });
    },
    [opener],
  );
}
